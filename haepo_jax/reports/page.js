"use strict";
// Adds to a page that is whole without it: values under the pointer, legends that hide curves, tables that sort.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // The contents: closed on a narrow screen, and the chapter that is read is marked.
  const contents = document.querySelector("nav details");
  if (contents) {
    const narrow = matchMedia("(max-width: 70rem)");
    const fit = () => { contents.open = !narrow.matches; };
    fit();
    narrow.addEventListener("change", fit);
    const links = new Map(all("a", contents).map((link) => [link.hash.slice(1), link]));
    links.forEach((link) => link.addEventListener("click", () => { if (narrow.matches) contents.open = false; }));
    const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
      const link = links.get(entry.target.id);
      if (entry.isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }), { rootMargin: "-20% 0px -60% 0px" });
    links.forEach((_, id) => { const target = document.getElementById(id); if (target) watcher.observe(target); });
  }

  // Tables: a click on a heading sorts by it, another one the other way round.
  const infinite = /^(never|infinite|inf|\u221e)/;
  const key = (cell) => {
    const text = cell.textContent.replace(/[✓\s]+/g, " ").trim();
    if (infinite.test(text)) return Infinity;
    const found = text.replace(/−/g, "-").match(/^[<>≤≥~≈]?\s*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([kM](?![a-z]))?/i);
    if (!found) return text;
    return parseFloat(found[1].replace(/,/g, "")) * ({ k: 1e3, M: 1e6 }[found[2]] || 1);
  };
  const compare = (one, other) => {
    const numbers = [one, other].map((value) => typeof value === "number");
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return numbers[0] ? (one === other ? 0 : one < other ? -1 : 1) : one.localeCompare(other);
  };
  all(".scroll > table, .claims").forEach((table) => {
    const body = table.tBodies[0], headings = table.tHead ? [...table.tHead.rows[0].cells] : [];
    if (body.rows.length < 2) return;
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
        rows.sort(([one], [other]) => (down ? compare(other, one) : compare(one, other)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  });

  // Legends: a click on an entry hides its curve, in the drawing for wide screens and in that for narrow ones.
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([attribute, value]) => element.setAttribute(attribute, value));
    return element;
  };
  const number = (part) => part.classList[1];
  const toggle = (figure, series) => {
    const off = !figure.hidden_series.delete(series);
    if (off) figure.hidden_series.add(series);
    all(`.${series}`, figure).forEach((part) => {
      if (part.classList.contains("key") || part.classList.contains("name")) part.classList.toggle("off", off);
      else part.style.display = off ? "none" : "";
    });
    all(`.entry[data-series="${series}"]`, figure).forEach((entry) => entry.setAttribute("aria-pressed", String(!off)));
  };
  const addEntries = (figure) => all("svg", figure).forEach((drawing) => {
    if (drawing.ready || !drawing.getBoundingClientRect().width) return;
    drawing.ready = true;
    if (drawing.querySelector(".name")) drawing.setAttribute("role", "group"); // what is in an img is read to no one
    all(".name", drawing).forEach((name) => {
      const series = number(name), sign = drawing.querySelector(`.${series}.key`);
      const boxes = [name, sign].filter(Boolean).map((part) => part.getBBox());
      const left = Math.min(...boxes.map((box) => box.x)), top = Math.min(...boxes.map((box) => box.y));
      const right = Math.max(...boxes.map((box) => box.x + box.width));
      const bottom = Math.max(...boxes.map((box) => box.y + box.height));
      const entry = svg("rect", {
        x: left - 4, y: top - 4, width: right - left + 8, height: bottom - top + 8, class: "entry", role: "button",
        tabindex: 0, "aria-pressed": String(!figure.hidden_series.has(series)), "aria-label": figure.names[series] || series,
        "data-series": series, style: "fill: transparent",
      });
      const act = (event) => { event.preventDefault(); toggle(figure, series); };
      entry.addEventListener("click", act);
      entry.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") act(event); });
      drawing.append(entry);
    });
  });

  // Values under the pointer.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const short = (value) => (value === null || value === undefined ? "–"
    : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4))));
  const share = ([low, high, log], value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const along = ([low, high, log], part) => (log ? low * (high / low) ** part : low + (high - low) * part);
  const sample = (values, part) => {
    const at = part * (values.length - 1), before = Math.floor(at), after = Math.ceil(at);
    if (values[before] === null || values[after] === null) return null;
    return values[before] + (at - before) * (values[after] - values[before]);
  };
  const readCurves = (figure, axes, across) => {
    const x = along(axes.x, across);
    const rows = axes.curves.filter((curve) => !figure.hidden_series.has(`series-${curve.s}`)).map((curve) => {
      const part = curve.x[0] === curve.x[1] ? 0 : share(curve.x, x);
      if (!curve.v.length || part < -0.005 || part > 1.005) return null;
      const inside = Math.min(1, Math.max(0, part)), ends = curve.l && [curve.l, curve.h].map((end) => short(sample(end, inside)));
      return [`series-${curve.s}`, `${curve.n}: ${short(sample(curve.v, inside))}${ends ? ` [${ends.join(", ")}]` : ""}`];
    });
    return [["", `${axes.of}: ${short(x)}`], ...rows.filter(Boolean)];
  };
  const read = (figure, axes, across, down) => {
    if (axes.curves) return readCurves(figure, axes, across);
    if (axes.cells) {
      const row = axes.cells[Math.min(axes.cells.length - 1, Math.floor(down * axes.cells.length))];
      return [["", row[Math.min(row.length - 1, Math.floor(across * row.length))]]];
    }
    const y = along(axes.y, 1 - down), off = (row) => Math.abs(row[0] - y);
    const nearest = axes.rows.reduce((best, row) => (!best || off(row) < off(best) ? row : best), null);
    return nearest ? [["", nearest[1]]] : [];
  };
  const show = (figure, drawing, event) => {
    const boxes = all(".box", drawing).map((box) => box.getBoundingClientRect());
    const at = boxes.findIndex((box) => event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom);
    const axes = at < 0 ? null : drawing.readings[at];
    drawing.cross.style.display = "none";
    if (!axes) { tip.hidden = true; return; }
    const box = boxes[at], across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
    tip.replaceChildren(...read(figure, axes, across, down).map(([series, text]) => {
      const line = document.createElement("div"), part = series && drawing.querySelector(`.${series}.line path`);
      if (part) {
        const sign = document.createElement("i");
        sign.style.background = getComputedStyle(part).stroke;
        line.append(sign);
      }
      line.append(text);
      return line;
    }));
    tip.hidden = false;
    const size = tip.getBoundingClientRect(), room = root.clientWidth - size.width - 8;
    tip.style.left = `${Math.max(8, Math.min(room, event.clientX + 14))}px`;
    tip.style.top = `${event.clientY - size.height > 16 ? event.clientY - size.height - 12 : event.clientY + 18}px`;
    if (axes.curves) {
      const inner = all(".box", drawing)[at].getBBox();
      const x = inner.x + across * inner.width;
      Object.entries({ x1: x, x2: x, y1: inner.y, y2: inner.y + inner.height }).forEach((pair) => drawing.cross.setAttribute(...pair));
      drawing.cross.style.display = "";
    }
  };
  const figures = all("figure").filter((figure) => figure.querySelector("svg[data-readings]"));
  figures.forEach((figure) => {
    figure.hidden_series = new Set();
    figure.names = {};
    all("svg", figure).forEach((drawing) => {
      drawing.readings = JSON.parse(drawing.dataset.readings || "[]");
      drawing.readings.forEach((axes) => (axes.curves || []).forEach((curve) => { figure.names[`series-${curve.s}`] = curve.n; }));
      drawing.cross = svg("line", { class: "cross", style: "display: none" });
      drawing.append(drawing.cross);
      const leave = () => { tip.hidden = true; drawing.cross.style.display = "none"; };
      drawing.addEventListener("pointermove", (event) => show(figure, drawing, event));
      drawing.addEventListener("pointerdown", (event) => show(figure, drawing, event));
      drawing.addEventListener("pointerleave", leave);
    });
    addEntries(figure);
  });
  addEventListener("resize", () => figures.forEach(addEntries));
  all("details").forEach((part) => part.addEventListener("toggle", () => figures.forEach(addEntries)));
})();
