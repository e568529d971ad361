// Shows all of the page, or says why it cannot.

async function show() {
  if (typeof DecompressionStream === "undefined") throw new Error("the pictures and the table need a browser from 2023 or later");
  const columns = JSON.parse(await unpacked("packed-columns"));
  startTable(columns);
  if ($("packed-plotly").textContent) {
    const program = element("script", await unpacked("packed-plotly"));
    document.head.append(program);
    const draw = () => { drawTimeline(columns); drawValues(columns); };
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
  document.documentElement.dataset.shown = "yes";  // for whoever waits for the page
}

show().catch((error) => {
  document.documentElement.dataset.shown = "no";
  $("problem").hidden = false;
  $("problem").textContent = String(error.message || error);
  throw error;
});
