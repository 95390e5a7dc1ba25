// Numbers as text, and elements: text enters as text nodes only.

function times(ratio) {
  if (ratio === null) return "";
  const rounded = Number(ratio.toPrecision(3));
  return `${rounded.toFixed(Math.max(0, 2 - Math.floor(Math.log10(rounded))))}×`;
}
function percent(share) {
  return share === null ? "" : (100 * share).toFixed(2);
}
function percentTick(share) {
  return String(Number((100 * share).toPrecision(6)));
}
function signed(share) {
  if (share === null) return "";
  return `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(2)}`;
}
function count(number) {
  if (number === null) return "";
  if (Math.abs(number) < 1e6) return String(Number(number.toPrecision(4)));
  return number.toExponential(2).replace("e+", "e");
}
function median(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const middle = ordered.length >> 1;
  return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A labelled choice; options: value -> text. */
function choice(label, options, value, changed) {
  const select = make("select");
  for (const [key, name] of Object.entries(options)) select.append(new Option(name, key));
  select.value = value;
  select.addEventListener("change", () => changed(select.value));
  return make("label", { className: "choice" }, make("span", {}, label), select);
}
