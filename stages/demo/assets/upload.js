// Says at once what becomes of a dropped picture. The page hears of it only when the browser has read it, and never of
// one that is too large; until then the old answer would stand beside it.
const set = (id, props) => window.dash_clientside.set_props(id, props);
const say = (text, className = "") => set("note", { children: text, className });

function dropped(event) {
  if (!event.target.closest?.("#upload")) return;
  const files = (event.dataTransfer ?? event.target).files ?? [];
  if (!files.length) return;
  const [{ name, size }] = files, { largest } = document.getElementById("note").dataset, MiB = 2 ** 20;
  if (files.length > 1) say("Drop one picture at a time.");
  else if (size > largest) say(`${name} is too large: ${Math.ceil(size / MiB)} MiB, the most is ${largest / MiB} MiB.`);
  else {
    say(`Reading ${name} …`, "busy");
    for (const side of ["left", "right"]) set(side, { children: [] });
  }
}

for (const kind of ["change", "drop"]) document.addEventListener(kind, dropped, true);
