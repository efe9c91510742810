
"use strict";
(() => {
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
  const plots = {};
  for (const place of document.querySelectorAll("[data-figure]")) {
    const name = place.dataset.figure;
    const figure = JSON.parse(document.getElementById("data-" + name).textContent);
    plots[name] = place;
    Plotly.newPlot(place, figure.data, figure.layout, config);
  }

  const transcripts = [...document.querySelectorAll(".transcript")];

  function choose(box, token, inFigure) {
    box.querySelector(".here")?.classList.remove("here");
    token.classList.add("here");
    const word = token.textContent.trim() || "white space";
    box.parentElement.querySelector(".readout").textContent = `“${word}”: ${token.title}`;
    if (inFigure) point(Number(box.dataset.trace), Number(token.dataset.p));
  }

  function point(trace, position) {
    const plot = plots.traces;
    const curve = plot.data.findIndex((line) => line.type === "scatter" && line.meta === trace);
    if (curve < 0) return;
    const { xaxis, yaxis } = plot.data[curve];
    Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: position }], (xaxis ?? "x") + (yaxis ?? "y"));
  }

  for (const box of transcripts) {
    const tokens = [...box.querySelectorAll(".t")];
    box.addEventListener("mouseover", (event) => {
      const token = event.target.closest(".t");
      if (token) choose(box, token, false);
    });
    box.addEventListener("click", (event) => {
      const token = event.target.closest(".t");
      if (token) choose(box, token, true);
    });
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const now = tokens.findIndex((token) => token.classList.contains("here"));
      const next = tokens[Math.min(Math.max(now + step, 0), tokens.length - 1)];
      choose(box, next, true);
      next.scrollIntoView({ block: "nearest" });
      event.preventDefault();
    });
  }

  plots.traces?.on("plotly_hover", (event) => {
    const { data, x } = event.points[0];
    const box = transcripts[data.meta];
    const token = box?.querySelector(`[data-p="${Math.round(x)}"]`);
    if (!token || token.classList.contains("here")) return;
    choose(box, token, false);
    box.scrollTop = token.offsetTop - box.offsetTop - box.clientHeight / 2;
  });

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not(.bulk)")) part.open = true;
    for (const place of Object.values(plots)) Plotly.Plots.resize(place);
  });
})();
