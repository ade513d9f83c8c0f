// SPDX-License-Identifier: Apache-2.0
#include "tools/flame_graph.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>

#include <fmt/format.h>

namespace weft::tools {
namespace {

constexpr double kWidth = 1200, kSide = 10, kTop = 62, kBottom = 12, kRow = 18, kLetter = 6.65;
constexpr double kInner = kWidth - 2 * kSide;
constexpr double kLeastWidth = 0.3;  // what is narrower is not drawn

// By name, so that two graphs of the same stacks are the same.
struct node {
  std::uint64_t amount = 0;
  std::map<std::string, node> children{};
};

node tree_of(const profile& shown) {
  node root;
  for (const profile::stack& stack : shown.stacks) {
    node* at = &root;
    at->amount += stack.amount;
    for (const std::string& name : path_of(shown, stack)) {
      at = &at->children[name];
      at->amount += stack.amount;
    }
  }
  return root;
}

int depth_of(const node& of, double per_amount) {
  int deepest = 0;
  for (const auto& [name, child] : of.children)
    if (static_cast<double>(child.amount) * per_amount >= kLeastWidth)
      deepest = std::max(deepest, 1 + depth_of(child, per_amount));
  return deepest;
}

// XML has no control characters at all, and what is no ASCII may be no UTF-8 either.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c >= ' ' && c <= '~' ? c : '?';
    }
  }
  return out;
}

// FNV-1a: the same everywhere.
std::uint32_t hash_of(std::string_view text) {
  std::uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// Hues by what is shown; the runtime's own functions are paler, and what is no function is grey.
std::string colour_of(const std::string& name, profile::kind what) {
  const std::uint32_t hash = hash_of(name);
  const unsigned spread = hash % 100, shade = hash / 100 % 100;
  if (name.starts_with('[')) return fmt::format("hsl(265,{}%,{}%)", 25 + spread / 8, 76 + shade / 12);
  unsigned hue = 8 + spread * 42 / 100;                               // red to yellow
  if (what == profile::kind::off_cpu) hue = 195 + spread * 30 / 100;  // blue
  if (what == profile::kind::parked) hue = 95 + spread * 60 / 100;    // green
  const bool ours = name.starts_with("weft::");
  return fmt::format("hsl({},{}%,{}%)", hue, ours ? 38 : 78, (ours ? 74 : 62) + shade / 9);
}

// What of it fits, or nothing.
std::string label_of(const std::string& name, double width) {
  const auto fits = static_cast<std::size_t>(std::max(0.0, (width - 6) / kLetter));
  if (fits < 3) return "";
  return name.size() <= fits ? name : name.substr(0, fits - 2) + "..";
}

class drawing {
 public:
  drawing(const profile& shown, double per_amount, double base) : shown_(shown), per_amount_(per_amount), base_(base) {}

  void draw_children(const node& of, double x, int row) {
    for (const auto& [name, child] : of.children) {
      const double width = static_cast<double>(child.amount) * per_amount_;
      if (width >= kLeastWidth) draw(name, child, x, width, row);
      x += width;
    }
  }

  std::string text;

 private:
  void draw(const std::string& name, const node& of, double x, double width, int row) {
    const double y = base_ - (row + 1) * kRow;
    const double share = 100 * width / kInner;
    text += fmt::format(
        R"(<g class="f"><title>{} ({}, {:.2f} %)</title><rect x="{:.2f}" y="{:.0f}" width="{:.2f}" height="{:.0f}" )"
        R"(fill="{}" rx="2"/><text x="{:.2f}" y="{:.1f}">{}</text></g>)"
        "\n",
        escaped(name), escaped(amount_text(shown_.what, of.amount)), share, x, y, width, kRow - 1,
        colour_of(name, shown_.what), x + 3, y + kRow - 5.5, escaped(label_of(name, width)));
    draw_children(of, x, row + 1);
  }

  const profile& shown_;
  const double per_amount_, base_;
};

std::string subtitle(const profile& shown) {
  std::string text = fmt::format("{:.3g} s, {}", shown.seconds, amount_text(shown.what, shown.total()));
  if (shown.hz != 0) text += fmt::format(" at {} Hz", shown.hz);
  if (shown.lost != 0) text += fmt::format(", {} more lost", shown.lost);
  for (const profile::process& p : shown.processes) text += fmt::format(" | {} ({})", p.program, p.pid);
  return text;
}

constexpr std::string_view kStyle = R"(<style>
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #222; pointer-events: none; }
.title { font: bold 17px system-ui, "DejaVu Sans", sans-serif; }
.note { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #555; }
.button { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #06c; cursor: pointer; pointer-events: all; }
.f rect { cursor: pointer; }
.f:hover rect { stroke: #222; }
.f.around rect { opacity: .55; }
.f.found rect { fill: #c3f; }
</style>
)";

// A frame keeps what it was drawn with; zooming stretches the part that the clicked one is over to the whole width.
constexpr std::string_view kScript = R"js(<script><![CDATA[
(function () {
  const svg = document.documentElement, side = SIDE, inner = INNER, letter = LETTER, slack = 0.03;
  const frames = Array.from(document.querySelectorAll(".f"), function (g) {
    const rect = g.querySelector("rect"), title = g.querySelector("title").textContent;
    return { g: g, rect: rect, label: g.querySelector("text"), x: +rect.getAttribute("x"),
             w: +rect.getAttribute("width"), y: +rect.getAttribute("y"), title: title,
             name: title.slice(0, title.lastIndexOf(" (")) };
  });
  const note = document.getElementById("note"), reset = document.getElementById("reset");
  const first = note.textContent;
  function place(f, x, w) {
    const fits = Math.floor((w - 6) / letter);
    f.rect.setAttribute("x", x);
    f.rect.setAttribute("width", Math.max(w, 0));
    f.label.setAttribute("x", x + 3);
    f.label.textContent = fits < 3 ? "" : f.name.length <= fits ? f.name : f.name.slice(0, fits - 2) + "..";
  }
  function zoom(to) {
    const scale = to ? inner / to.w : 1;
    reset.style.display = to ? "" : "none";
    frames.forEach(function (f) {
      const around = to && f.y > to.y && f.x <= to.x + slack && f.x + f.w >= to.x + to.w - slack;
      const inside = !to || around || (f.y <= to.y && f.x >= to.x - slack && f.x + f.w <= to.x + to.w + slack);
      f.g.classList.toggle("around", Boolean(around));
      f.g.style.display = inside ? "" : "none";
      if (around) place(f, side, inner);
      else if (inside) place(f, to ? side + (f.x - to.x) * scale : f.x, f.w * scale);
    });
  }
  function search() {
    const asked = window.prompt("Find functions by a regular expression; nothing: none", "");
    let pattern = null;
    if (asked === null) return;
    try { pattern = asked === "" ? null : new RegExp(asked); } catch (wrong) { note.textContent = String(wrong); return; }
    let sum = 0, ends = {};
    frames.slice().sort(function (a, b) { return b.y - a.y; }).forEach(function (f) {
      const found = pattern !== null && pattern.test(f.name);
      f.g.classList.toggle("found", found);
      if (!found) return;
      for (const x in ends) if (f.x >= +x - slack && f.x + f.w <= ends[x] + slack) return;
      ends[f.x] = f.x + f.w;
      sum += f.w;
    });
    note.textContent = pattern === null ? first : "/" + asked + "/ is in " + (100 * sum / inner).toFixed(2) + " %";
  }
  frames.forEach(function (f) {
    f.g.addEventListener("click", function () { zoom(f); });
    f.g.addEventListener("mouseover", function () { note.textContent = f.title; });
    f.g.addEventListener("mouseout", function () { note.textContent = first; });
  });
  reset.addEventListener("click", function () { zoom(null); });
  document.getElementById("search").addEventListener("click", search);
  svg.addEventListener("keydown", function (key) { if (key.key === "Escape") zoom(null); });
})();
]]></script>
)js";

std::string script() {
  std::string text(kScript);
  const auto put = [&text](std::string_view word, double value) {
    text.replace(text.find(word), word.size(), fmt::format("{:g}", value));
  };
  put("SIDE", kSide);
  put("INNER", kInner);
  put("LETTER", kLetter);
  return text;
}

}  // namespace

std::string flame_graph(const profile& shown) {
  const node root = tree_of(shown);
  const double per_amount = root.amount == 0 ? 0 : kInner / static_cast<double>(root.amount);
  const int rows = std::max(1, depth_of(root, per_amount));
  const double height = kTop + rows * kRow + kBottom;
  drawing all(shown, per_amount, kTop + rows * kRow);
  all.draw_children(root, kSide, 0);
  std::string text = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}">)"
      "\n",
      kWidth, height);
  text += kStyle;
  text += fmt::format(R"(<rect width="100%" height="100%" fill="#fdfcf9"/>
<text class="title" x="{:g}" y="26">{} flame graph</text>
<text class="note" id="note" x="{:g}" y="47">{}</text>
<text class="button" id="reset" x="{:g}" y="26" text-anchor="end" style="display: none">all</text>
<text class="button" id="search" x="{:g}" y="26" text-anchor="end">search</text>
)",
                      kSide, name_of(shown.what), kSide, escaped(subtitle(shown)), kWidth - kSide - 60, kWidth - kSide);
  if (shown.stacks.empty()) text += fmt::format(R"(<text x="{:g}" y="{:g}">nothing was seen</text>)", kSide, kTop + 12);
  return text + all.text + script() + "</svg>\n";
}

}  // namespace weft::tools
