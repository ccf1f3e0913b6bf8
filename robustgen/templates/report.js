"use strict";
// Filters of the report. All state lies in the address: attack, path, outcome, sample
// and page of each gallery (of the second pair attack.2 and so on), and checks.
(() => {
  const PER_PAGE = 12;
  const FILTERS = ["attack", "path", "outcome", "sample"];
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  /** A new element; texts are never read as markup. */
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** A name that may break behind its underscores. */
  function breakable(name) {
    return name.split(/(?<=_)/).flatMap((part, place) =>
      place ? [document.createElement("wbr"), part] : [part]);
  }

  function showControls() {
    for (const control of all(".controls, #theme")) control.hidden = false;
  }

  function setUpTheme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
    const name = () => { button.textContent = isDark() ? "Light colors" : "Dark colors"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      name();
    });
    system.addEventListener("change", name);
    name();
  }

  /** Paper has no triangles to open. */
  function setUpPrint() {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = all("details:not([open])");
      for (const details of opened) details.open = true;
    });
    addEventListener("afterprint", () => {
      for (const details of opened) details.open = false;
    });
  }

  /** The state that the address holds; empty for the address of a heading. */
  function readState() {
    const text = location.hash.slice(1);
    return new URLSearchParams(text.includes("=") ? text : "");
  }

  function writeState(changes) {
    const state = readState();
    for (const [name, value] of Object.entries(changes)) {
      if (value) state.set(name, value);
      else state.delete(name);
    }
    const text = state.toString();
    history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  }

  /** Chooses a value of a list; what the list lacks chooses its first. */
  function choose(select, value) {
    select.value = value ?? "";
    if (select.selectedIndex < 0) select.selectedIndex = 0;
  }

  function filterChecks(status) {
    for (const select of all("[data-checks]")) {
      choose(select, status);
      const part = select.closest(".part");
      for (const line of all("[data-status]", part)) {
        line.hidden = select.value !== "" && line.dataset.status !== select.value;
      }
      for (const passes of all(".passes", part)) {
        passes.hidden = !["", "pass"].includes(select.value);
        passes.open = select.value === "pass";
      }
    }
  }

  function panel(card, place, title) {
    const [name, probability] = card.panels[place];
    const last = card.panels.length - 1;
    const image = make("img", {
      src: "data:image/png;base64," + card.png,
      alt: `${name}: ${title}`,
      // The strip is as high as a panel: each shows its own square of it.
      style: `object-position: ${last ? (100 * place) / last : 0}% 0`,
    });
    const caption = probability === undefined ? name : `${name}: ${probability.toFixed(2)}`;
    // Views begin a line of their own.
    return make("li", name === "view 1" ? { class: "views" } : {}, image, caption);
  }

  function sentence(line, asked) {
    const share = line.share === undefined ? "" : ` in ${Math.round(100 * line.share)}% of resamples`;
    const marks = line.is.map((outcome) => {
      const mark = { right: "✓ ", wrong: "✗ " }[outcome] ?? "";
      return make("span", { class: `chip ${outcome}` }, mark + outcome);
    });
    const right = line.share === undefined ? [] : [`right${share}`];
    return make(
      "tr",
      line.path === asked ? { class: "asked" } : {},
      make("th", { scope: "row" }, ...breakable(line.path)),
      make("td", {}, line.says),
      make("td", {}, line.p.toFixed(2)),
      make("td", {}, ...marks, ...right),
    );
  }

  function drawCard(card, known, asked) {
    const attack = known.cases[card.case].label;
    const title = `sample ${card.sample}, ${attack}`;
    const heads = ["path", "says", "p(true)", "outcome"].map((name) =>
      make("th", { scope: "col" }, name));
    const shown = card.png
      ? make("ul", { class: "panels" }, ...card.panels.map((_, place) => panel(card, place, title)))
      : make("p", { class: "caption" }, `Picture: pictures/${card.file}`);
    return make(
      "article",
      {
        class: "card",
        "data-sample": card.sample,
        "data-attack": known.cases[card.case].id,
        "aria-label": title,
      },
      make("h4", {}, `${attack} `, make("span", {}, `sample ${card.sample}, true class ${card.label}`)),
      shown,
      make(
        "table",
        { class: "said" },
        make("thead", {}, make("tr", {}, ...heads)),
        make("tbody", {}, ...card.said.map((line) => sentence(line, asked))),
      ),
    );
  }

  function isWanted(card, known, wanted) {
    const found = known.cases[card.case];
    if (wanted.attack && wanted.attack !== found.id && wanted.attack !== found.attack) return false;
    if (wanted.sample && wanted.sample !== String(card.sample)) return false;
    if (!wanted.path && !wanted.outcome) return true;
    return card.said.some((line) =>
      (!wanted.path || wanted.path === line.path) &&
      (!wanted.outcome || line.is.includes(wanted.outcome)));
  }

  /** Wires one gallery; returns what brings it in line with the address. */
  function setUpGallery(element, known, number) {
    const suffix = number ? `.${number + 1}` : "";
    const select = (name) => element.querySelector(`[data-filter="${name}"]`);
    const steps = all("[data-step]", element);
    let page = 1;

    function draw() {
      const wanted = Object.fromEntries(FILTERS.map((name) => [name, select(name).value]));
      const cards = known.cards.filter((card) => isWanted(card, known, wanted));
      const pages = Math.max(1, Math.ceil(cards.length / PER_PAGE));
      page = Math.min(Math.max(1, page), pages);
      const start = (page - 1) * PER_PAGE;
      const shown = cards.slice(start, start + PER_PAGE);
      element.querySelector("[data-cards]").replaceChildren(
        ...shown.map((card) => drawCard(card, known, wanted.path)));
      const range = shown.length ? `, shown ${start + 1} to ${start + shown.length}` : "";
      element.querySelector("[data-count]").textContent =
        `${cards.length} of ${known.cards.length} cards match${range}.`;
      element.querySelector("[data-page]").textContent = `Page ${page} of ${pages}`;
      for (const step of steps) {
        step.disabled = Number(step.dataset.step) < 0 ? page === 1 : page === pages;
      }
    }

    function remember() {
      const state = Object.fromEntries(FILTERS.map((name) => [name + suffix, select(name).value]));
      state["page" + suffix] = page > 1 ? String(page) : "";
      writeState(state);
    }

    function change(to) {
      page = to;
      draw();
      remember();
    }

    for (const name of FILTERS) select(name).addEventListener("change", () => change(1));
    for (const step of steps) {
      step.addEventListener("click", () => {
        change(page + Number(step.dataset.step));
        element.scrollIntoView();
      });
    }
    element.querySelector("[data-reset]").addEventListener("click", () => {
      for (const name of FILTERS) choose(select(name), "");
      change(1);
    });

    return () => {
      const state = readState();
      for (const name of FILTERS) choose(select(name), state.get(name + suffix));
      page = Number.parseInt(state.get("page" + suffix) ?? "1", 10) || 1;
      draw();
      return [...FILTERS, "page"].some((name) => state.has(name + suffix));
    };
  }

  const galleries = JSON.parse(document.getElementById("galleries").textContent);
  const elements = all("[data-gallery]");
  const updates = elements.map((element, number) =>
    setUpGallery(element, galleries[element.dataset.gallery], number));

  function followAddress() {
    const asked = updates.map((update) => update());
    filterChecks(readState().get("checks"));
    return asked;
  }

  showControls();
  setUpTheme();
  setUpPrint();
  for (const select of all("[data-checks]")) {
    select.addEventListener("change", () => {
      filterChecks(select.value);
      writeState({ checks: select.value });
    });
  }
  addEventListener("hashchange", followAddress);
  const asked = followAddress().indexOf(true);
  // At once: a reader who asked for cards need not see the way to them.
  if (asked >= 0) elements[asked].scrollIntoView({ behavior: "instant" });
  addEventListener("load", () => {
    root.dataset.ready = String(Math.round(performance.now()));
  });
})();
