(() => {
  "use strict";
  const mark = (element) => getSelection().selectAllChildren(element);

  for (const block of document.querySelectorAll("pre.copy")) {
    const button = document.createElement("button");
    const said = document.createElement("span");
    const tools = document.createElement("div");
    Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
    said.setAttribute("role", "status");
    tools.className = "tools right";
    tools.append(said, button);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        said.textContent = "Copied";
      } catch {
        mark(block); // this page may not use the clipboard: marked, the keyboard does the rest
        said.textContent = "Marked: press Ctrl+C";
      }
    });
    block.before(tools);
  }
})();
