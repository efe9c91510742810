"use strict";
(() => {
  const table = document.getElementById("probes");
  const heads = [...table.tHead.rows[0].cells];
  const words = new Intl.Collator(undefined, { numeric: true });

  // undefined last in both orders; numbers as numbers; ties keep their places
  function compare(one, other, sign) {
    if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
    const gap = Number(one) - Number(other);
    return sign * (Number.isNaN(gap) ? words.compare(one, other) : gap);
  }

  heads.forEach((head, column) => {
    head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      const order = (row) => row.cells[column].dataset.order;
      rows.sort((one, other) => compare(order(one), order(other), up ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
})();
