// The pictures: slots over time, and values against what was swept.

const PHASES = ["useful", "start-up", "lost"];
const MOST_BARS = 3000;    // more are drawn as one area: one element of the page for all, instead of one for each
const MOST_POINTS = 1500;  // of more jobs, the pictures of values show quantiles
const FEW = 12;            // numbers with so many different values are shown like categories
const BINS = 40;
const MOST_PICTURES = 12;

function layoutOf(more) {
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("text"), family: "system-ui, sans-serif", size: 12 },
    margin: { l: 20, r: 10, t: 30, b: 30 }, hovermode: "closest", showlegend: false,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("text") }, ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function drawTimeline(columns) {
  const { lanes, bars, origin } = columns;
  if (!$("timeline") || !bars.lane.length) return;
  const height = Math.max(150, Math.min(720, 70 + 26 * lanes.length));
  const last = bars.begin.reduce((most, begin, index) => Math.max(most, begin + bars.length[index]), 0);
  const margin = 0.005 * (last - columns.pauses.reduce((sum, [begin, end]) => sum + end - begin, 0));
  const step = Math.max(1, Math.ceil(lanes.length / ((height - 70) / 16)));
  const named = lanes.map((_, index) => index).filter((index) => index % step === 0);
  const rowOfJob = new Map(columns.jobs.num.map((num, row) => [num, row]));
  const label = (index) => describe(columns, rowOfJob.get(bars.job[index]), bars, index);
  const traces = (from, to) => {
    const inside = bars.begin.map((_, index) => index)
      .filter((index) => bars.begin[index] <= to && bars.begin[index] + bars.length[index] >= from);
    const make = inside.length <= MOST_BARS ? barsOf : areasOf;
    return PHASES.map((phase, number) =>
      make(inside.filter((index) => bars.phase[index] === number), phase, bars, origin, label));
  };
  const layout = layoutOf({
    height, barmode: "overlay", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 },
    xaxis: { type: "date", range: [origin - margin, origin + last + margin], gridcolor: colour("line"),
      rangebreaks: columns.pauses.map((pause) => ({ bounds: pause.map((at) => new Date(origin + at).toISOString().slice(0, -1)) })) },
    shapes: columns.pauses.map(([begin]) => ({ type: "line", x0: origin + begin, x1: origin + begin, yref: "paper", y0: 0, y1: 1,
      line: { color: colour("quiet"), width: 1, dash: "dot" } })),
    annotations: columns.pauses.map(([begin, end]) => ({ x: origin + begin, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
      text: `paused for ${duration((end - begin) / 1000)}`, font: { size: 11, color: colour("quiet") } })),
    yaxis: { range: [lanes.length - 0.5, -0.5], fixedrange: true, showgrid: false, tickvals: named,
      ticktext: named.map((index) => plain(lanes[index])) },
  });
  Plotly.newPlot("timeline", traces(0, last), layout, CONFIG).then((picture) => {
    picture.removeAllListeners("plotly_relayout");
    picture.on("plotly_relayout", (change) => {
      if (bars.lane.length <= MOST_BARS || !("xaxis.range[0]" in change || "xaxis.autorange" in change)) return;
      const range = picture.layout.xaxis.range.map((moment) => millisecondsOf(moment) - origin);
      Plotly.react("timeline", traces(range[0], range[1]), picture.layout, CONFIG);
    });
  });
}

function millisecondsOf(moment) {
  return isNumber(moment) ? moment : Date.parse(`${moment.replace(" ", "T")}Z`);  // Plotly says `2026-11-28 09:30:00.5`
}

function describe(columns, row, bars, index) {
  const params = Object.entries(columns.params).filter(([, values]) => row !== undefined && values[row] !== null);
  const said = params.slice(0, 8).map(([name, values]) => `${name}=${short(values[row])}`).join(" ");
  const attempt = bars.attempt[index] ? `, attempt ${bars.attempt[index] + 1}` : "";
  return `#${bars.job[index]}${attempt}: ${PHASES[bars.phase[index]]} ${duration(bars.length[index] / 1000)}<br>${plain(said)}`;
}

function barsOf(inside, phase, bars, origin, label) {
  return {
    type: "bar", orientation: "h", name: phase, y: inside.map((index) => bars.lane[index]),
    base: inside.map((index) => origin + bars.begin[index]), x: inside.map((index) => bars.length[index]),
    marker: { color: colour(phase), line: { color: colour("ground"), width: 0.6 } },
    hovertext: inside.map(label), hovertemplate: "%{hovertext}<br>%{base|%H:%M:%S}<extra></extra>",
  };
}

function areasOf(inside, phase, bars, origin) {
  const half = 0.375;
  const corners = (index) => {
    const begin = origin + bars.begin[index], end = begin + bars.length[index];
    return [begin, end, end, begin, begin, null];
  };
  return {
    type: "scatter", mode: "none", fill: "toself", fillcolor: colour(phase), name: phase, hoverinfo: "skip", connectgaps: false,
    x: inside.flatMap(corners),
    y: inside.flatMap((index) => [-half, -half, half, half, -half, null].map((by) => (by === null ? null : bars.lane[index] + by))),
  };
}

function quantile(sorted, part) {
  const place = part * (sorted.length - 1), low = Math.floor(place), high = Math.ceil(place);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function spansDecades(values) {
  const low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
  return low > 0 && high >= 100 * low;
}

function drawValues(columns) {
  const { jobs, params } = columns;
  const rows = jobs.num.map((_, row) => row).filter((row) => jobs.state[row] === "finished" && isNumber(jobs.value[row]));
  const varied = Object.keys(params).filter((name) => new Set(rows.map((row) => params[name][row])).size > 1);
  const names = varied.slice(0, MOST_PICTURES);
  if (!rows.length || !names.length) return;
  $("values-section").hidden = false;
  const y = rows.map((row) => jobs.value[row]);
  const yType = y.length > 2 && spansDecades(y) ? "log" : "linear";
  let summed = false;
  $("values").replaceChildren(...names.map((name) => { const made = element("div"); made.dataset.name = name; return made; }));
  names.forEach((name, index) => {
    const x = rows.map((row) => params[name][row]);
    const numeric = x.every((value) => value === null || isNumber(value));
    const different = new Set(x).size;
    const nums = rows.map((row) => jobs.num[row]);
    let traces, type = "category";
    if (!numeric || (different <= FEW && rows.length >= 5 * different)) {
      traces = boxesOf(x, y, nums);
    } else {
      type = spansDecades(x.filter(isNumber)) ? "log" : "linear";
      traces = rows.length <= MOST_POINTS ? pointsOf(x, y, nums) : quantilesOf(x, y);
      summed = summed || rows.length > MOST_POINTS;
    }
    Plotly.newPlot($("values").children[index], traces, layoutOf({
      height: 240, title: { text: plain(name), font: { size: 13 }, x: 0.02, xanchor: "left" },
      xaxis: { type, ...(type === "log" ? { dtick: 1, exponentformat: "power" } : {}) }, yaxis: { type: yType, nticks: 6 },
    }), { ...CONFIG, displayModeBar: false });
  });
  const notes = [];
  if (summed) notes.push("Lines are medians, bands hold the middle 80 % of the jobs with about this value.");
  if (names.length < varied.length) notes.push(`These are ${names.length} of ${varied.length} parameters; the table has all.`);
  $("values-note").textContent = notes.join(" ");
}

function pointsOf(x, y, nums) {
  return [{
    type: "scatter", mode: "markers", x, y, marker: { color: colour("useful"), size: 7, opacity: 0.75 },
    text: nums.map((num) => `#${num}`), hovertemplate: "%{text}: %{y}<br>%{x}<extra></extra>",
  }];
}

function boxesOf(x, y, nums) {
  const label = (value) => (value === null ? "(not set)" : short(value));
  const order = [...new Set(x)].sort(compare);
  const few = y.length <= 300;
  return order.map((value) => {
    const inside = x.map((_, index) => index).filter((index) => x[index] === value);
    return {
      type: "box", name: plain(label(value)), y: inside.map((index) => y[index]), boxpoints: few ? "all" : false, jitter: 0.5, pointpos: 0,
      x: inside.map(() => plain(label(value))), marker: { color: colour("useful"), size: 5, opacity: 0.7 },
      line: { color: colour("quiet"), width: 1 }, fillcolor: "rgba(0,0,0,0)", text: inside.map((index) => `#${nums[index]}`),
      hovertemplate: "%{text}: %{y}<extra></extra>",
    };
  });
}

function quantilesOf(x, y) {
  const pairs = x.map((value, index) => [value, y[index]]).filter(([value]) => value !== null).sort((a, b) => a[0] - b[0]);
  const size = Math.ceil(pairs.length / BINS);
  const bins = [];
  for (let first = 0; first < pairs.length; first += size) {
    const bin = pairs.slice(first, first + size);
    const values = bin.map((pair) => pair[1]).sort((a, b) => a - b);
    bins.push([quantile(bin.map((pair) => pair[0]), 0.5), quantile(values, 0.1), quantile(values, 0.5), quantile(values, 0.9)]);
  }
  const centre = bins.map((bin) => bin[0]);
  const edge = { type: "scatter", mode: "lines", x: centre, hoverinfo: "skip", line: { color: colour("useful"), width: 0 } };
  return [
    { ...edge, y: bins.map((bin) => bin[1]) },
    { ...edge, y: bins.map((bin) => bin[3]), fill: "tonexty", opacity: 0.3 },
    { type: "scatter", mode: "lines", x: centre, y: bins.map((bin) => bin[2]), line: { color: colour("useful"), width: 2 },
      hovertemplate: "median %{y}<br>%{x}<extra></extra>" },
  ];
}
