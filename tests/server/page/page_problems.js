// Returns what is wrong with a page for a keyboard, a screen reader or a small screen: names, labels, ids, width.
() => {
  const problems = [];
  const textOf = (id) => document.getElementById(id)?.textContent || "";
  const shown = (e) => e.outerHTML.slice(0, 120);
  const visible = (e) => e.getClientRects().length > 0;
  const name = (e) => (e.getAttribute("aria-label") || "").trim()
    || (e.getAttribute("aria-labelledby") || "").split(" ").map(textOf).join(" ").trim()
    || Array.from(e.labels || []).map((label) => label.textContent).join(" ").trim()
    || (e.textContent || "").trim()
    || Array.from(e.querySelectorAll("img")).map((image) => image.alt).join(" ").trim();
  document.querySelectorAll("a[href], button, summary, select, textarea, input:not([type=hidden])").forEach((e) => {
    if (visible(e) && !name(e)) problems.push("no name: " + shown(e));
  });
  document.querySelectorAll("input:not([type=hidden]), select, textarea").forEach((e) => {
    if (visible(e) && !e.labels?.length && !e.getAttribute("aria-label")) problems.push("no label: " + shown(e));
  });
  document.querySelectorAll("img").forEach((e) => {
    if (!e.hasAttribute("alt")) problems.push("no alt: " + shown(e));
  });
  const ids = Array.from(document.querySelectorAll("[id]")).map((e) => e.id);
  ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => problems.push("id twice: " + id));
  document.querySelectorAll("[aria-labelledby]").forEach((e) => {
    if (!document.getElementById(e.getAttribute("aria-labelledby"))) problems.push("label missing: " + shown(e));
  });
  if (document.querySelectorAll("h1").length !== 1) problems.push("h1: " + document.querySelectorAll("h1").length);
  if (document.querySelectorAll("main").length !== 1) problems.push("main is missing");
  if (!document.documentElement.lang || !document.title) problems.push("no language or title");
  const width = document.documentElement.scrollWidth;
  if (width > document.documentElement.clientWidth) problems.push("wider than the screen: " + width);
  return problems;
}
