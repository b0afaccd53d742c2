// SPDX-License-Identifier: GPL-2.0-only
// What the plots of a report are made of: elements, numbers in words, ticks.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const UNIT = { us: 1e3, s: 1e9, share: 0.01, count: 1, ratio: 1, pps: 1 };
const data = JSON.parse(document.getElementById("data").textContent);
const plots = [];

const make = (name, attributes = {}, parent = null, text = "") => {
  const isSvg = parent && parent.namespaceURI === SVG;
  const node = isSvg || name === "svg" ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const grouped = (value, digits) => {
  const [whole, rest] = Math.abs(value).toFixed(digits).split(".");
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return (value < 0 ? "-" : "") + text + (rest ? "." + rest : "");
};
const us = (ns) => grouped(ns / 1e3, 3) + " us";
const seconds = (ns) => (ns / 1e9).toFixed(9) + " s";
const percent = (share) => String(+(share * 100).toPrecision(3)) + " %";
const WORDS = { us, s: seconds, share: percent, ratio: (v) => v.toFixed(3), pps: (v) => grouped(v, 0) + " packets/s", count: String };

// Values on an axis as it is drawn: of a logarithmic one their logarithms.
const on = (axis, value) => (axis.is_log ? Math.log10(value) : value);

const step = (span, count) => {
  const raw = span / Math.max(count, 1);
  const size = 10 ** Math.floor(Math.log10(raw));
  return size * ([1, 2, 5].find((n) => n * size >= raw) || 10);
};
// [where, label] of each tick between two places on an axis.
const ticksOf = (axis, low, high, count) => {
  const unit = UNIT[axis.unit];
  const label = (value, digits) => {
    const shown = value / unit;
    if (axis.unit === "share") return String(+shown.toPrecision(3)) + " %";
    if (axis.unit === "pps" && Math.abs(shown) >= 1e4) return +(shown / 1e6).toPrecision(4) + " M";
    return digits > 6 ? shown.toExponential(1) : grouped(shown, Math.min(digits, 9));
  };
  if (axis.categories.length) {
    return axis.categories.map((name, at) => [at, name]).filter(([at]) => at >= low && at <= high);
  }
  if (axis.is_log && high - low > 0.7) {
    const shift = Math.log10(unit);
    const every = Math.max(1, Math.ceil((high - low) / count));
    const within = high - low < 1.6 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let decade = Math.floor(low - shift); decade <= high - shift; decade++) {
      if (decade % every) continue;
      for (const digit of within) {
        const at = decade + Math.log10(digit) + shift;
        if (at >= low - 1e-9 && at <= high + 1e-9) ticks.push([at, label(10 ** at, Math.max(0, -decade))]);
      }
    }
    if (ticks.length > 1) return ticks;
  }
  const [from, to] = axis.is_log ? [10 ** low / unit, 10 ** high / unit] : [low / unit, high / unit];
  const size = step(to - from, count);
  const digits = Math.max(0, -Math.floor(Math.log10(size) + 1e-9));
  const ticks = [];
  for (let n = Math.ceil(from / size); n * size <= to; n++) ticks.push([on(axis, n * size * unit), label(n * size * unit, digits)]);
  return ticks;
};
