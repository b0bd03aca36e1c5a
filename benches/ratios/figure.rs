//! Draws lines into an SVG file, both axes logarithmic.

use std::fmt::Write;
use std::fs;
use std::path::Path;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
/// The names of the lines stand to the right of their ends.
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Names of lines are not nearer to each other.
const NAME_HEIGHT: f64 = 16.0;

/// These colours are told apart by the colour-blind, too (Okabe and Ito), on white and on black.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Figure {
    pub(crate) fn write(&self, dir: &Path, name: &str) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().next().is_none() {
            return;
        }
        let (x, y) = (Axis::over(points().map(|point| point.0)), Axis::over(points().map(|point| point.1)));
        let right = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
        let mut svg = head(&self.title);
        let (bottom, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for value in x.marks() {
            let at = right(value);
            writeln!(svg, r#"<path class="grid" d="M{at:.1} {TOP}V{bottom}"/>"#).unwrap();
            writeln!(svg, r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{value}</text>"#, bottom + 18.0).unwrap();
        }
        for value in y.marks() {
            let at = down(value);
            writeln!(svg, r#"<path class="grid" d="M{LEFT} {at:.1}H{end}"/>"#).unwrap();
            writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{value}</text>"#, LEFT - 8.0, at + 4.0)
                .unwrap();
        }
        let middle = f64::midpoint(LEFT, end);
        writeln!(svg, r#"<text x="{middle}" y="{:.1}" text-anchor="middle">{}</text>"#, HEIGHT - 10.0, self.across)
            .unwrap();
        writeln!(svg, r#"<text x="{LEFT}" y="{:.1}">{}</text>"#, TOP - 8.0, self.up).unwrap();
        let mut named: Vec<(f64, &Line, &str)> = Vec::new();
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let Some(last) = line.points.last() else { continue };
            let path: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1} {:.1}", right(*x), down(*y))).collect();
            writeln!(svg, r#"<path class="line" stroke="{colour}" d="M{}"/>"#, path.join("L")).unwrap();
            for (x, y) in &line.points {
                writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, right(*x), down(*y)).unwrap();
            }
            named.push((down(last.1), line, colour));
        }
        named.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest = f64::MIN;
        for (at, line, colour) in named {
            lowest = at.max(lowest + NAME_HEIGHT);
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" style="fill:{colour}">{}</text>"#,
                end + 8.0,
                lowest + 4.0,
                line.name
            )
            .unwrap();
        }
        svg.push_str("</svg>\n");
        let file = dir.join(name);
        fs::create_dir_all(dir).and_then(|()| fs::write(&file, svg)).unwrap();
        println!("\n{}: {}", self.title, file.display());
    }
}

/// One colour on light and dark pages alike would be hard to read, so the text asks which page it is.
fn head(title: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">
<style>
text {{ font: 13px sans-serif; fill: #24292f }}
.grid {{ stroke: #8c959f; stroke-width: 0.4 }}
.line {{ fill: none; stroke-width: 2 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #d0d7de }} }}
</style>
<text x="{LEFT}" y="16" style="font-weight: bold">{title}</text>
"#
    )
}

/// A logarithmic axis from one power of ten to another.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Axis {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values {
            (low, high) = (low.min(value.log10().floor()), high.max(value.log10().ceil()));
        }
        Axis { low, high: high.max(low + 1.0) }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value.log10() - self.low) / (self.high - self.low)
    }

    fn marks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}
