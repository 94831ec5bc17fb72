// The page is complete without this. It adds a reading line over the figure: the outcomes of the
// bar under the pointer, or the operation nearest to it in the latency plot.
(() => {
  const figure = document.getElementById("figure");
  const tip = document.getElementById("tip");
  const data = JSON.parse(document.getElementById("marks").textContent);
  const box = figure.viewBox.baseVal;
  const NS = figure.namespaceURI;
  const make = (tag, name) => {
    const made = document.createElementNS(NS, tag);
    made.setAttribute("class", name);
    made.style.display = "none";
    figure.appendChild(made);
    return made;
  };
  const cursor = make("line", "cursor");
  const ring = make("circle", "nearest");
  ring.setAttribute("r", 5);
  const { left, right, span } = data.axis;
  const seconds = (x) => ((x - left) / (right - left)) * span;
  const hide = () => {
    tip.hidden = true;
    cursor.style.display = ring.style.display = "none";
  };
  const nearest = (side, x, y) => {
    let best = null, least = 64;
    for (const point of side.points) {
      const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
      if (distance < least) { least = distance; best = point; }
    }
    return best;
  };
  const words = (side, x, point) => {
    if (point) {
      return `operation ${point[5]}: ${side.kinds[point[4]]}, ${side.outcomes[point[3]]}\n` +
        `${point[2].toPrecision(3)} ms, started at ${seconds(point[0]).toFixed(2)} s`;
    }
    const index = Math.floor((seconds(x) - side.start) / data.seconds + 1e-9);
    const bucket = side.buckets[index];
    const from = (side.start + index * data.seconds).toFixed(1);
    return bucket
      ? `${from} s, ${data.seconds * 1000} ms\n${bucket[0]} ok, ${bucket[1]} unknown, ${bucket[2]} fail`
      : `${seconds(x).toFixed(2)} s`;
  };
  figure.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(
      figure.getScreenCTM().inverse());
    const side = data.sides.find((each) => at.y >= each.top && at.y <= each.bottom);
    if (!side || at.x < left || at.x > right) return hide();
    const point = nearest(side, at.x, at.y);
    cursor.style.display = "";
    for (const [name, value] of [["x1", at.x], ["x2", at.x], ["y1", 0], ["y2", box.height]]) {
      cursor.setAttribute(name, value);
    }
    ring.style.display = point ? "" : "none";
    if (point) {
      ring.setAttribute("cx", point[0]);
      ring.setAttribute("cy", point[1]);
    }
    tip.textContent = words(side, at.x, point);
    tip.hidden = false;
    const scale = figure.clientWidth / box.width;
    const room = figure.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(at.x * scale + 16, room))}px`;
    tip.style.top = `${at.y * scale + 18}px`;
  });
  figure.addEventListener("pointerleave", hide);
})();
