// The page

function render() {
  hideTip();
  markFilters();
  if (places.frontier) showCharts(places.frontier, frontierCharts());
  if (places.cost) showCharts(places.cost, costCharts());
  if (places.curves) showCharts(places.curves, curveCharts());
  if (places.table) renderTable();
}

function buildTheme() {
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => document.documentElement.dataset.theme;
  const isDark = () => (theme() ? theme() === "dark" : dark.matches);
  const name = () => {
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  name();
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
addEventListener("scroll", () => hideTip(), { passive: true });
document.getElementById("print").addEventListener("click", () => print());
const narrow = matchMedia("(max-width: 60rem)");
const foldFilters = () => {
  document.querySelector(".filters").open = !narrow.matches;
};
narrow.addEventListener("change", foldFilters);
foldFilters();
buildTheme();
buildFilters();
buildPlaces();
if (places.table) buildTable(places.table);
render();

let lastWidth = document.getElementById("main").clientWidth;
new ResizeObserver(([{ target }]) => {
  if (target.clientWidth === lastWidth) return;
  lastWidth = target.clientWidth;
  requestAnimationFrame(render);
}).observe(document.getElementById("main"));
document.documentElement.dataset.ready = "";
