"use strict";
// Shows the figures of the step under the pointer.
for (const plot of document.querySelectorAll(".plot")) {
  const data = JSON.parse(plot.querySelector("script").textContent);
  const cursor = plot.querySelector(".cursor");
  const tip = plot.querySelector(".tip");
  const nearest = (xs, x) => {
    let low = 0;
    let high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) { low = middle; } else { high = middle; }
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };
  const hide = () => { cursor.hidden = tip.hidden = true; };
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share < 0 || share > 1) { hide(); return; }
    const first = data.curves[0];
    const x = first.x[nearest(first.x, data.low + share * (data.high - data.low))];
    const lines = [`step ${x.toLocaleString("en")}`];
    for (const curve of data.curves) {
      const i = nearest(curve.x, x);
      lines.push(`${curve.name}: ${curve.y[i]}` + (curve.x[i] === x ? "" : ` (step ${curve.x[i].toLocaleString("en")})`));
    }
    tip.textContent = lines.join("\n");
    cursor.hidden = tip.hidden = false;
    const left = (x - data.low) / (data.high - data.low) * box.width;
    cursor.style.left = `${left}px`;
    tip.style.left = left < box.width / 2 ? `${left + 10}px` : "auto";
    tip.style.right = left < box.width / 2 ? "auto" : `${box.width - left + 10}px`;
  });
  plot.addEventListener("pointerleave", hide);
}
