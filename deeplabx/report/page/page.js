"use strict";

// Tables: a button in each heading sorts by that column, numbers by value, texts by their language's order.
const order = new Intl.Collator(undefined, {numeric: true});

function compared(first, second, numeric) {
  if (first === "" || second === "") return (first === "") - (second === "");  // empty cells come last
  return numeric ? Number(first) - Number(second) : order.compare(first, second);
}

function sorted(table, column, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending"
    || (!heading.hasAttribute("aria-sort") && heading.classList.contains("number"));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const numeric = heading.classList.contains("number");
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[column].dataset.key;
  rows.sort((a, b) => {
    const found = compared(key(a), key(b), numeric);
    return descending && key(a) !== "" && key(b) !== "" ? -found : found;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sorted(table, column, heading));
    heading.append(button);
  });
}

// Commands: a button that copies them.
async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {  // no permission, or an older browser
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (!document.execCommand("copy")) return "Press Ctrl-C";
  }
  return "Copied";
}

for (const pre of document.querySelectorAll(".command pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = await copied(pre.querySelector("code"));
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  pre.classList.add("copied");
  pre.after(button);
}

// Paper cannot be clicked: everything is open while it is printed.
const closed = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; closed.push(one); }
});
addEventListener("afterprint", () => { while (closed.length) closed.pop().open = false; });
