"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.runs) { return; }
  const SVG = "http://www.w3.org/2000/svg";
  const LEFT = 58, RIGHT = 14, TOP = 6, BOTTOM = 20;
  const CHARTS = [
    { title: "Number of instances", unit: "", height: 190, marks: true, lines: [
      { name: "ready", label: "ready", style: "one", step: true },
      { name: "booting", label: "booting", style: "two", step: true },
      { name: "draining", label: "draining", style: "three", step: true },
      { name: "wish", label: "wish of the policies", style: "four", step: true, bare: true }] },
    { title: "Number of jobs", unit: "", height: 130, log: true, lines: [
      { name: "backlog", label: "waiting", style: "one", step: true },
      { name: "busy", label: "in service", style: "two", step: true, bare: true }] },
    { title: "Waits of the jobs that arrive then", unit: "s", height: 130, log: true, lines: [
      { name: "wait", label: "mean", style: "one", step: true },
      { name: "wait_p95", label: "95 in 100 at most", style: "two", step: true },
      { name: "wait_max", label: "longest", style: "three", step: true }] },
    { title: "Cost so far", unit: "$", height: 120, lines: [
      { name: "instance_usd", label: "instances", style: "one" },
      { name: "delay_usd", label: "waiting", style: "two" }] },
  ];
  const view = { from: 0, to: data.length };
  let cursor = null;
  let log = false;

  function make(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) { element.setAttribute(key, attributes[key]); }
    if (text !== undefined) { element.textContent = text; }
    parent.appendChild(element);
    return element;
  }
  function tag(parent, name, style, text) {
    const element = document.createElement(name);
    if (style) { element.className = style; }
    if (text !== undefined) { element.textContent = text; }
    parent.appendChild(element);
    return element;
  }
  const two = (number) => String(number).padStart(2, "0");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // Times: of the calendar if the scenario says when it begins, else counted.
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const begins = data.begins_ms === null ? 0 : data.begins_ms / 1000;
  function parts(secs) {
    const at = Math.floor(begins + secs + 1e-6);
    const clock = two(Math.floor(at / 3600) % 24) + ":" + two(Math.floor(at / 60) % 60);
    const date = new Date(at * 1000);
    const day = data.begins_ms === null
      ? "day " + (Math.floor(at / 86400) + 1)
      : date.getUTCDate() + " " + MONTHS[date.getUTCMonth()];
    return { at, day, clock, secs: two(at % 60), year: date.getUTCFullYear() };
  }
  function full(secs) {
    const time = parts(secs);
    const tail = time.secs === "00" ? "" : ":" + time.secs;
    return data.begins_ms === null
      ? time.day + ", " + time.clock + tail
      : time.day + " " + time.year + " " + time.clock + tail + " UTC";
  }
  const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
    2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 91 * 86400, 365 * 86400, 3650 * 86400];
  function timeTicks(width) {
    const most = Math.max(2, Math.floor(width / 84));
    const step = STEPS.find((step) => (view.to - view.from) / step <= most) || STEPS[STEPS.length - 1];
    const ticks = [];
    for (let at = Math.ceil((begins + view.from) / step) * step; at <= begins + view.to; at += step) {
      const time = parts(at - begins);
      const midnight = time.clock === "00:00" && time.secs === "00";
      const label = step >= 86400 || midnight ? time.day
        : step < 60 ? time.clock + ":" + time.secs : time.clock;
      ticks.push([at - begins, label]);
    }
    return ticks;
  }
  function number(value) {
    if (value === null || value === undefined) { return "-"; }
    const size = Math.abs(value);
    if (size >= 1e6) { return Number((value / 1e6).toPrecision(3)) + "M"; }
    if (size >= 1e4) { return Number((value / 1e3).toPrecision(3)) + "k"; }
    if (size >= 100 || Number.isInteger(value)) { return String(Math.round(value)); }
    return String(Number(value.toPrecision(3)));
  }
  function valueTicks(most, logarithmic) {
    if (logarithmic) {
      const ticks = [0];
      for (let value = 1; value <= most; value *= 10) { ticks.push(value); }
      return ticks.length > 6 ? ticks.filter((_, place) => place === 0 || place % 2 === 1) : ticks;
    }
    const raw = most / 5, power = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = [1, 2, 5, 10].map((part) => part * power).find((part) => part >= raw * 0.999);
    const ticks = [];
    for (let place = 0; place * step <= most * 1.0001; place += 1) {
      ticks.push(Number((place * step).toPrecision(12)));
    }
    return ticks;
  }

  // Columns without extremes of their own are as large as their means.
  const column = (run, name) => run.columns[name] || run.columns[name.replace(/_(min|max)$/, "")];
  const bins = Math.max(1, Math.ceil(data.length / data.step - 1e-9));
  const binOf = (secs) => clamp(Math.floor(secs / data.step), 0, bins - 1);
  const endOf = (bin) => Math.min((bin + 1) * data.step, data.length);

  class Chart {
    constructor(run, spec, figure, panel) {
      Object.assign(this, { run, spec, panel });
      const caption = tag(figure, "figcaption");
      tag(caption, "b", "", spec.title + (spec.unit ? ", " + spec.unit : ""));
      for (const line of spec.lines) {
        const key = tag(caption, "span", "key");
        const icon = make(key, "svg", { width: 22, height: 10, "aria-hidden": "true" });
        make(icon, "path", { d: "M0 5H22", class: "line " + line.style });
        key.appendChild(document.createTextNode(line.label));
      }
      if (spec.marks) {
        const key = tag(caption, "span", "key");
        const icon = make(key, "svg", { width: 20, height: 10, "aria-hidden": "true" });
        make(icon, "path", { d: "M1 9l4 -8l4 8z", class: "up" });
        make(icon, "path", { d: "M11 1l4 8l4 -8z", class: "down" });
        key.appendChild(document.createTextNode("decisions to grow, to shrink"));
      }
      this.svg = make(figure, "svg", { class: "chart", height: spec.height, role: "img",
        "aria-label": spec.title + " of " + run.policy });
      this.listen();
    }
    x(secs) {
      return LEFT + (secs - view.from) / (view.to - view.from) * (this.width - LEFT - RIGHT);
    }
    secs(x) {
      const part = (x - LEFT) / (this.width - LEFT - RIGHT);
      return clamp(view.from + part * (view.to - view.from), view.from, view.to);
    }
    y(value) {
      const part = this.logarithmic
        ? Math.log1p(value) / Math.log1p(this.most) : value / this.most;
      return this.floor - part * (this.floor - TOP);
    }
    // Points of a series as [x, y] in runs without gaps.
    trace(name, step) {
      const values = column(this.run, name);
      const found = [];
      let piece = null;
      const last = step ? binOf(view.to) : Math.min(values.length - 1, binOf(view.to) + 1);
      for (let bin = binOf(view.from); bin <= last; bin += 1) {
        const value = values[bin];
        if (value === null || value === undefined) { piece = null; continue; }
        if (!piece) { piece = []; found.push(piece); }
        const y = this.y(value);
        const from = Math.min(bin * data.step, data.length);
        piece.push([this.x(from), y]);
        if (step) { piece.push([this.x(endOf(bin)), y]); }
      }
      return found;
    }
    draw() {
      const width = this.svg.parentNode.clientWidth;
      if (width === 0) { return; }
      this.width = width;
      this.floor = this.spec.height - BOTTOM - (this.spec.marks ? 16 : 0);
      this.logarithmic = log && this.spec.log;
      let most = 0;
      for (const line of this.spec.lines) {
        const values = column(this.run, line.bare || !line.step || line.name.startsWith("wait")
          ? line.name : line.name + "_max");
        const last = Math.min(values.length - 1, binOf(view.to) + (line.step ? 0 : 1));
        for (let bin = binOf(view.from); bin <= last; bin += 1) { most = Math.max(most, values[bin] || 0); }
      }
      this.most = most > 0 ? most * 1.04 : 1;
      const svg = this.svg;
      svg.setAttribute("width", width);
      svg.replaceChildren();
      const inner = "clip" + this.panel.place + "-" + CHARTS.indexOf(this.spec);
      const clip = make(make(svg, "defs", {}), "clipPath", { id: inner });
      make(clip, "rect", { x: LEFT, y: 0, width: Math.max(1, width - LEFT - RIGHT), height: this.spec.height });
      for (const value of valueTicks(this.most, this.logarithmic)) {
        const y = this.y(value);
        make(svg, "path", { d: "M" + LEFT + " " + y.toFixed(1) + "H" + (width - RIGHT), class: "grid" });
        make(svg, "text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, number(value));
      }
      for (const [at, label] of timeTicks(width - LEFT - RIGHT)) {
        const x = this.x(at);
        make(svg, "path", { d: "M" + x.toFixed(1) + " " + TOP + "V" + (this.spec.height - BOTTOM + 3), class: "grid" });
        if (x > LEFT + 8 && x < width - RIGHT - 12) {
          make(svg, "text", { x, y: this.spec.height - 5, "text-anchor": "middle" }, label);
        }
      }
      make(svg, "text", { x: LEFT - 6, y: this.spec.height - 5, "text-anchor": "end" },
        data.begins_ms === null ? "time" : "UTC");
      const body = make(svg, "g", { "clip-path": "url(#" + inner + ")" });
      const text = (piece) => piece.map(([x, y]) => x.toFixed(1) + " " + y.toFixed(1)).join("L");
      for (const line of this.spec.lines) {
        if (line.step && !line.bare && this.run.columns[line.name + "_max"] && !line.name.startsWith("wait")) {
          const low = this.trace(line.name + "_min", true), high = this.trace(line.name + "_max", true);
          const area = high.map((piece, place) =>
            "M" + text(piece) + "L" + text(low[place].slice().reverse()) + "Z").join("");
          make(body, "path", { d: area, class: "band " + line.style });
        }
        const d = this.trace(line.name, line.step).map((piece) => "M" + text(piece)).join("");
        make(body, "path", { d, class: "line " + line.style });
      }
      if (this.spec.marks) { this.drawMarks(body); }
      this.brush = make(body, "rect", { class: "brush", y: 0, height: this.spec.height, width: 0, x: 0 });
      this.hair = make(body, "path", { class: "cursor", d: "" });
      this.drawCursor();
    }
    drawMarks(body) {
      const y = this.floor + 3;
      const shapes = { up: "", down: "", blind: "" };
      for (const [at, from, to] of this.run.marks) {
        if (at < view.from || at > view.to) { continue; }
        const x = this.x(at).toFixed(1);
        if (from === null || to === null) { shapes.blind += "M" + x + " " + y + "m-1 0h2v14h-2z"; }
        else if (to > from) { shapes.up += "M" + x + " " + y + "l-3 6h6z"; }
        else { shapes.down += "M" + x + " " + (y + 14) + "l-3 -6h6z"; }
      }
      for (const name in shapes) {
        if (shapes[name]) { make(body, "path", { d: shapes[name], class: name }); }
      }
    }
    drawCursor() {
      if (!this.hair) { return; }
      const shown = cursor !== null && cursor >= view.from && cursor <= view.to;
      this.hair.setAttribute("d", shown
        ? "M" + this.x(cursor).toFixed(1) + " " + TOP + "V" + (this.spec.height - BOTTOM) : "");
    }
    listen() {
      let start = null;
      const at = (event) => event.clientX - this.svg.getBoundingClientRect().left;
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) { return; }
        start = at(event);
        this.svg.setPointerCapture(event.pointerId);
        this.panel.charts.focus({ preventScroll: true });
      });
      this.svg.addEventListener("pointermove", (event) => {
        const x = at(event);
        if (start !== null && Math.abs(x - start) > 4) {
          this.brush.setAttribute("x", Math.min(x, start));
          this.brush.setAttribute("width", Math.abs(x - start));
        } else if (event.pointerType === "mouse") {
          point(this.nearest(x));
        }
      });
      this.svg.addEventListener("pointerup", (event) => {
        const x = at(event), from = start;
        start = null;
        this.brush.setAttribute("width", 0);
        if (from !== null && Math.abs(x - from) > 4) {
          show(this.secs(Math.min(x, from)), this.secs(Math.max(x, from)));
        } else {
          point(this.nearest(x));
        }
      });
      this.svg.addEventListener("pointercancel", () => {
        start = null;
        this.brush.setAttribute("width", 0);
      });
    }
    // A decision close by if decisions are drawn here, else the place itself.
    nearest(x) {
      const secs = this.secs(x);
      if (!this.spec.marks) { return secs; }
      const reach = 5 * (view.to - view.from) / (this.width - LEFT - RIGHT);
      let best = null;
      for (const [at] of this.run.marks) {
        if (Math.abs(at - secs) <= reach && (best === null || Math.abs(at - secs) < Math.abs(best - secs))) {
          best = at;
        }
      }
      return best === null ? secs : best;
    }
  }

  class Panel {
    constructor(element) {
      this.place = Number(element.dataset.run);
      this.run = data.runs[this.place];
      this.element = element;
      this.charts = element.querySelector(".charts");
      this.charts.tabIndex = 0;
      this.charts.setAttribute("role", "group");
      this.charts.setAttribute("aria-label", "Course of " + this.run.policy);
      this.list = CHARTS.map((spec) => new Chart(this.run, spec, tag(this.charts, "figure"), this));
      this.readout = tag(this.charts, "p", "readout empty");
      this.readout.setAttribute("aria-live", "polite");
      this.decisions = element.querySelector(".decisions");
      this.charts.addEventListener("keydown", (event) => this.press(event));
      element.addEventListener("toggle", () => this.draw());
      this.decisions.addEventListener("toggle", () => this.drawDecisions());
    }
    draw() {
      if (!this.element.open) { return; }
      for (const chart of this.list) { chart.draw(); }
      this.read();
      this.drawDecisions();
    }
    drawCursor() {
      if (!this.element.open) { return; }
      for (const chart of this.list) { chart.drawCursor(); }
      this.read();
    }
    read() {
      const box = this.readout;
      box.classList.toggle("empty", cursor === null);
      if (cursor === null) {
        box.textContent = "Point at a picture to read its values and the decision there.";
        return;
      }
      const bin = binOf(cursor);
      const value = (name) => number(column(this.run, name)[bin]);
      const range = (name) => {
        const low = column(this.run, name + "_min")[bin], high = column(this.run, name + "_max")[bin];
        return value(name) + (low === high ? "" : " (" + number(low) + " to " + number(high) + ")");
      };
      const from = bin * data.step;
      const values = full(from) + (bins === 1 ? "" : " to " + full(endOf(bin))) + ": "
        + "ready " + range("ready") + ", booting " + range("booting") + ", draining " + range("draining")
        + ", wish " + range("wish") + "; waiting " + range("backlog") + ", in service " + range("busy")
        + "; waits " + value("wait") + " s on average, 95 in 100 at most " + value("wait_p95")
        + " s, longest " + value("wait_max") + " s; so far $" + value("instance_usd")
        + " for instances, $" + value("delay_usd") + " for waiting.";
      box.textContent = values;
      const mark = this.decisionAt(cursor);
      if (mark) {
        tag(box, "br");
        tag(box, "b", "", full(mark[0]) + " ");
        box.appendChild(document.createTextNode(mark[3]));
      }
    }
    // The last decision at or before `secs`.
    decisionAt(secs) {
      let found = null;
      for (const mark of this.run.marks) {
        if (mark[0] > secs + 1e-3) { break; }
        found = mark;
      }
      return found;
    }
    drawDecisions() {
      const box = this.decisions.querySelector("div");
      box.replaceChildren();
      if (!this.decisions.open) { return; }
      const MOST = 200;
      const all = this.run.marks.filter(([at]) => at >= view.from && at <= view.to);
      const table = tag(box, "table");
      const head = tag(tag(table, "thead"), "tr");
      for (const [name, style] of [["time", ""], ["from", ""], ["to", ""], ["why", "why"]]) {
        tag(head, "th", style, name).scope = "col";
      }
      const body = tag(table, "tbody");
      for (const [at, from, to, why] of all.slice(0, MOST)) {
        const row = tag(body, "tr");
        tag(row, "th", "", full(at)).scope = "row";
        tag(row, "td", "", from === null ? "?" : String(from));
        tag(row, "td", "", to === null ? "?" : String(to));
        tag(row, "td", "why", why);
      }
      if (all.length > MOST) {
        tag(box, "p", "note", "The first " + MOST + " of " + all.length + ": zoom in to see others.");
      }
    }
    press(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) { return; }
      const key = event.key;
      const bin = cursor === null ? binOf(view.from) - 1 : binOf(cursor);
      const far = event.shiftKey ? 10 : 1;
      const middle = (target) => (clamp(target, 0, bins - 1) + 0.5) * data.step;
      const marks = this.run.marks;
      const now = cursor === null ? view.from - 1 : cursor;
      if (key === "ArrowRight") { point(Math.min(middle(bin + far), data.length)); }
      else if (key === "ArrowLeft") { point(Math.min(middle(bin - far), data.length)); }
      else if (key === "n") { point((marks.find((mark) => mark[0] > now + 1e-3) || [cursor])[0]); }
      else if (key === "p") { point((marks.filter((mark) => mark[0] < now - 1e-3).pop() || [cursor])[0]); }
      else if (key === "+" || key === "=") { zoom(0.5); }
      else if (key === "-") { zoom(2); }
      else if (key === "0") { show(0, data.length); }
      else if (key === "Escape") { point(null); }
      else { return; }
      event.preventDefault();
    }
  }

  const panels = Array.from(document.querySelectorAll(".run"), (element) => new Panel(element));
  const button = (id) => document.getElementById(id);

  function point(secs) {
    cursor = secs;
    if (secs !== null && (secs < view.from || secs > view.to)) {
      const half = (view.to - view.from) / 2;
      show(secs - half, secs + half);
    } else {
      for (const panel of panels) { panel.drawCursor(); }
    }
  }
  function show(from, to) {
    const least = Math.min(data.length, data.step * 2);
    const span = clamp(to - from, least, data.length);
    view.from = clamp((from + to - span) / 2, 0, data.length - span);
    view.to = view.from + span;
    drawAll();
  }
  function zoom(factor) {
    const span = (view.to - view.from) * factor;
    const inside = cursor !== null && cursor >= view.from && cursor <= view.to;
    const middle = inside ? cursor : (view.from + view.to) / 2;
    show(middle - span / 2, middle + span / 2);
  }
  function drawAll() {
    const whole = view.from <= 0 && view.to >= data.length;
    button("span").textContent = full(view.from) + " to " + full(view.to);
    button("all").disabled = whole;
    button("out").disabled = whole;
    button("back").disabled = view.from <= 0;
    button("on").disabled = view.to >= data.length;
    for (const panel of panels) { panel.draw(); }
  }

  // Cost against wait, with names that do not lie on one another.
  function drawPlane() {
    const box = document.getElementById("plane");
    const width = Math.min(box.clientWidth, 720), height = 300, low = height - 38;
    if (width === 0) { return; }
    box.replaceChildren();
    const svg = make(box, "svg", { width, height, role: "img",
      "aria-label": "Cost of the instances against mean wait; the table has the same numbers" });
    const most = (of) => Math.max(...data.runs.map(of)) * 1.08 || 1;
    const costMost = most((run) => run.cost), waitMost = most((run) => run.wait);
    const positive = data.runs.map((run) => run.wait).filter((wait) => wait > 0);
    const spread = positive.length > 1 && Math.max(...positive) > 30 * Math.min(...positive);
    const x = (cost) => LEFT + cost / costMost * (width - LEFT - RIGHT);
    const y = (wait) => low - (spread ? Math.log1p(wait) / Math.log1p(waitMost) : wait / waitMost) * (low - TOP);
    for (const value of valueTicks(costMost, false)) {
      make(svg, "path", { d: "M" + x(value) + " " + TOP + "V" + low, class: "grid" });
      make(svg, "text", { x: x(value), y: low + 15, "text-anchor": "middle" }, number(value));
    }
    for (const value of valueTicks(waitMost, spread)) {
      make(svg, "path", { d: "M" + LEFT + " " + y(value) + "H" + (width - RIGHT), class: "grid" });
      make(svg, "text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, number(value));
    }
    make(svg, "text", { x: (LEFT + width) / 2, y: height - 6, "text-anchor": "middle" }, "instances, $");
    make(svg, "text", { x: 12, y: (TOP + low) / 2, "text-anchor": "middle",
      transform: "rotate(-90 12 " + (TOP + low) / 2 + ")" },
      "mean wait, s" + (spread ? " (log scale)" : ""));
    const beaten = (run) => data.runs.some((other) => other !== run && other.cost <= run.cost
      && other.wait <= run.wait && (other.cost < run.cost || other.wait < run.wait));
    const front = data.runs.filter((run) => !beaten(run)).sort((one, other) => one.cost - other.cost);
    make(svg, "path", { class: "front",
      d: "M" + front.map((run) => x(run.cost) + " " + y(run.wait)).join("L") });
    const taken = data.runs.map((run) =>
      ({ run, at: y(run.wait) + 4, from: x(run.cost) - 6, to: x(run.cost) + 6 }));
    const order = data.runs.slice().sort((one, other) => y(one.wait) - y(other.wait));
    for (const run of order) {
      make(svg, "circle", { cx: x(run.cost), cy: y(run.wait), r: 5, class: "dot" });
      const long = run.policy.length * 6.6 + 12;
      const left = x(run.cost) + long > width - RIGHT;
      const from = left ? x(run.cost) - long : x(run.cost);
      let at = y(run.wait) + 4;
      const hits = () => at < TOP + 8 || at > low - 2 || taken.some((one) =>
        one.run !== run && Math.abs(one.at - at) < 13 && from < one.to && one.from < from + long);
      const own = at;
      for (let tries = 1; hits() && tries < 60; tries += 1) {
        at = own + 4 * Math.ceil(tries / 2) * (tries % 2 === 0 ? 1 : -1);
      }
      taken.push({ at, from, to: from + long });
      make(svg, "text", { class: "name", x: x(run.cost) + (left ? -9 : 9), y: at,
        "text-anchor": left ? "end" : "start" }, run.policy);
    }
  }

  button("all").addEventListener("click", () => show(0, data.length));
  button("in").addEventListener("click", () => zoom(0.5));
  button("out").addEventListener("click", () => zoom(2));
  button("back").addEventListener("click", () => move(-0.5));
  button("on").addEventListener("click", () => move(0.5));
  button("log").addEventListener("change", (event) => {
    log = event.target.checked;
    drawAll();
  });
  function move(part) {
    const by = (view.to - view.from) * part;
    show(view.from + by, view.to + by);
  }
  let waiting = false;
  function later() {
    if (waiting) { return; }
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawPlane();
      drawAll();
    });
  }
  window.addEventListener("resize", later);
  window.addEventListener("beforeprint", () => {
    for (const panel of panels) { panel.element.open = true; }
    drawPlane();
    drawAll();
  });
  drawPlane();
  drawAll();
  document.body.dataset.state = "drawn";
})();
