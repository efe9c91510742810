
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

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not(.bulk)")) part.open = true;
    for (const place of Object.values(plots)) Plotly.Plots.resize(place);
  });
})();
