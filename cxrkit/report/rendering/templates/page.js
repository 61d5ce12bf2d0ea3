"use strict";
// What a page can do beyond being read: sort a table, leave out columns, choose light or dark. Without it all is shown.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const said = document.getElementById("said");

  // --- light or dark
  const colours = document.getElementById("colours");
  const kept = () => { try { return localStorage.getItem("cxrkit-colours"); } catch { return null; } };
  const choose = (name) => {
    if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    try { localStorage.setItem("cxrkit-colours", name); } catch { /* a page from a file may keep nothing */ }
  };
  colours.value = ["light", "dark"].includes(kept()) ? kept() : "";
  choose(colours.value);
  colours.addEventListener("change", () => choose(colours.value));

  // --- sorting: a table and its parts for paper have the same rows, in the same order
  const key = (cell, numeric) => {
    if (!numeric) return cell.textContent.trim();
    return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
  };
  const compared = (one, other) => {
    if (typeof one === "string") return one.localeCompare(other, "en", { numeric: true });
    // What has no number comes last in either direction.
    return one - other;
  };
  const sort = (block, heading, direction) => {
    const table = heading.closest("table");
    const rows = all("tbody tr", table);
    const place = [...heading.parentElement.children].indexOf(heading);
    const cells = rows.map((row) => row.children[place]);
    const numeric = place > 0 && cells.some((cell) => cell.dataset.value !== undefined);
    const keys = new Map(rows.map((row, index) => [row.dataset.row, key(cells[index], numeric)]));
    const order = rows.map((row) => row.dataset.row);
    if (direction === "none") order.sort((one, other) => one - other);
    else {
      const sign = direction === "ascending" ? 1 : -1;
      order.sort((a, b) => {
        const [one, other] = [keys.get(a), keys.get(b)];
        if (numeric && (Number.isNaN(one) || Number.isNaN(other))) return Number.isNaN(one) - Number.isNaN(other);
        return sign * compared(one, other) || a - b;
      });
    }
    for (const body of all("tbody", block)) {
      const byNumber = new Map(all("tr", body).map((row) => [row.dataset.row, row]));
      body.append(...order.map((number) => byNumber.get(number)));
    }
    for (const other of all("thead th", block)) other.removeAttribute("aria-sort");
    if (direction !== "none") heading.setAttribute("aria-sort", direction);
    block.classList.toggle("sorted", direction !== "none");
    const name = heading.textContent.trim().replace(/\s+/g, " ");
    said.textContent = direction === "none" ? "Rows in their own order" : `Sorted by ${name}, ${direction}`;
  };
  const next = (heading) => {
    const numeric = heading.dataset.column !== undefined && !heading.classList.contains("left");
    const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const now = heading.getAttribute("aria-sort");
    return now === first ? second : now === second ? "none" : first;
  };
  for (const block of all(".table-block")) {
    for (const heading of all(".screen thead th", block)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(block, heading, next(heading)));
    }
  }

  // --- columns: one of the reader's own runs is shown or hidden in all tables
  const show = (block, column, shown) => {
    for (const cell of all(`[data-column="${column}"]`, block)) cell.hidden = !shown;
    const boxes = all(".chooser input", block);
    const out = all(".chooser output", block)[0];
    fade(block.querySelector(".screen"));
    out.textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length}`;
  };
  const chosen = (box) => {
    const alike = box.dataset.own === undefined ? [box]
      : all(".chooser input[data-own]").filter((other) => other.dataset.own === box.dataset.own);
    for (const other of alike) {
      other.checked = box.checked;
      show(other.closest(".table-block"), other.value, other.checked);
    }
  };
  for (const box of all(".chooser input")) box.addEventListener("change", () => chosen(box));
  for (const button of all(".chooser button")) {
    button.addEventListener("click", () => {
      for (const box of all("input", button.closest("fieldset"))) {
        box.checked = button.value === "all";
        chosen(box);
      }
    });
  }

  // --- what goes on to the right fades out there
  const sized = new ResizeObserver((entries) => entries.forEach((entry) => fade(entry.target)));
  // What shows all that it has is no place to stop at with the keyboard, and no landmark.
  const reach = (box) => {
    const more = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (more) box.tabIndex = 0; else box.removeAttribute("tabindex");
    if (more) box.setAttribute("role", "region"); else box.removeAttribute("role");
  };
  const fade = (box) => {
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
    reach(box);
  };
  for (const box of all(".scroll")) {
    fade(box);
    sized.observe(box);
    box.addEventListener("scroll", () => fade(box), { passive: true });
  }

  // --- contents: where one reads
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  for (const id of links.keys()) {
    const part = document.getElementById(id);
    if (part) seen.observe(part);
  }
  if (matchMedia("(max-width: 70rem)").matches) document.querySelector("nav details").open = false;
  for (const part of all("[data-scripted]")) part.hidden = false;
})();
