"use strict";
// Tables sort by a click on a header, or Enter: by number where a column has numbers.
const value = (row, i) => {
  const text = row.cells[i].textContent, number = parseFloat(text.replace(/[^\d.+-]*/, ""));
  return Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    const sort = () => {
      const up = head.ariaSort !== "ascending", rows = [...table.tBodies[0].rows];
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = up ? "ascending" : "descending";
      rows.sort((a, b) => {
        const [x, y] = [value(a, i), value(b, i)];
        const order = typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    };
    head.tabIndex = 0;
    head.setAttribute("role", "button");
    head.onclick = sort;
    head.onkeydown = event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    };
  });
}

// Charts tell what their lines are worth under the pointer.
const read = document.createElement("div");
read.id = "read";
read.hidden = true;
document.body.append(read);
const short = number => Number(number.toPrecision(3)).toString();
for (const chart of document.querySelectorAll("svg[data-range]")) {
  const [left, bottom, right, top] = chart.dataset.area.split(" ").map(Number);
  const [xLow, yLow, xHigh, yHigh] = chart.dataset.range.split(" ").map(Number);
  const lines = [...chart.querySelectorAll("polyline")].map(line => ({
    name: line.dataset.name,
    points: line.getAttribute("points").split(" ").map(pair => pair.split(",").map(Number)),
  }));
  chart.onpointermove = event => {
    const box = chart.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    let x = 0;
    const rows = lines.map(({ name, points }) => {
      const near = points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      const y = yLow + (near[1] - bottom) / (top - bottom) * (yHigh - yLow);
      x = xLow + (near[0] - left) / (right - left) * (xHigh - xLow);
      return `${name}: ${short(chart.dataset.log ? 10 ** y : y)}`;
    });
    read.textContent = [`at ${short(x)}`, ...rows].join("\n");
    read.style.left = `${Math.min(event.clientX + 14, innerWidth - 200)}px`;
    read.style.top = `${event.clientY + 14}px`;
    read.hidden = false;
  };
  chart.onpointerleave = () => { read.hidden = true; };
}
