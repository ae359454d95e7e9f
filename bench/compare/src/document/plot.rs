//! Line plots as SVG: panels above one another, over one horizontal axis.

use std::fmt::Write;

/// One line of a panel.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One vertical axis with its lines.
#[derive(Debug, Clone)]
pub struct Panel {
    pub label: String,
    pub series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 220.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const GAP: f64 = 36.0;
const BOTTOM: f64 = 46.0;
const COLORS: [&str; 5] = ["#1b6ca8", "#d1495b", "#3a7d44", "#8d6a9f", "#b5651d"];

/// The whole picture. A horizontal axis of powers (`logarithmic`) must have positive values only.
pub fn plot(title: &str, x_label: &str, logarithmic: bool, panels: &[Panel]) -> String {
    let height = TOP + panels.len() as f64 * (PANEL_HEIGHT + GAP) + BOTTOM;
    let scale = |x: f64| if logarithmic { x.log10() } else { x };
    let all: Vec<f64> = points(panels).map(|(x, _)| x).collect();
    let axis = Axis::new(all.iter().map(|x| scale(*x)), LEFT, WIDTH - RIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL_HEIGHT + GAP);
        draw_panel(&mut svg, panel, top, |x| axis.at(scale(x)));
    }
    for x in ticks_of(&all) {
        text(&mut svg, axis.at(scale(x)), height - BOTTOM, "middle", &short(x));
    }
    text(&mut svg, (LEFT + WIDTH - RIGHT) / 2.0, height - 12.0, "middle", x_label);
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: f64, x_at: impl Fn(f64) -> f64) {
    let bottom = top + PANEL_HEIGHT;
    let highest = panel.series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let step = nice_step(highest / 4.0);
    let last = (highest / step).ceil().max(1.0) * step;
    let axis = Axis { from: 0.0, to: last, low: bottom, high: top + 14.0 };
    text(svg, LEFT, top + 6.0, "start", &panel.label);
    let mut y = 0.0;
    while y <= last * 1.001 {
        let at = axis.at(y);
        put(
            svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
                WIDTH - RIGHT
            ),
        );
        text(svg, LEFT - 8.0, at + 4.0, "end", &short(y));
        y += step;
    }
    for (series, (number, color)) in panel.series.iter().zip(COLORS.iter().enumerate()) {
        let path: Vec<_> =
            series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), axis.at(*y))).collect();
        put(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join(" ")
            ),
        );
        let y = top + 20.0 + 18.0 * number as f64;
        put(
            svg,
            format_args!(
                "<text x=\"{}\" y=\"{y}\" fill=\"{color}\">{}</text>",
                WIDTH - RIGHT + 10.0,
                series.name
            ),
        );
    }
}

/// A linear map from values to places.
struct Axis {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, low: f64, high: f64) -> Axis {
        let from = values.clone().fold(f64::INFINITY, f64::min);
        let to = values.fold(f64::NEG_INFINITY, f64::max);
        Axis { from, to, low, high }
    }

    fn at(&self, value: f64) -> f64 {
        // A single value stands at the beginning.
        let width = if self.to > self.from { self.to - self.from } else { 1.0 };
        self.low + (value - self.from) / width * (self.high - self.low)
    }
}

fn points(panels: &[Panel]) -> impl Iterator<Item = (f64, f64)> {
    panels.iter().flat_map(|panel| &panel.series).flat_map(|series| series.points.iter().copied())
}

/// The values themselves, if they are few; else some of them.
fn ticks_of(all: &[f64]) -> Vec<f64> {
    let mut values = all.to_vec();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let every = values.len().div_ceil(12).max(1);
    values.into_iter().step_by(every).collect()
}

/// The next of 1, 2, 5, 10, 20, ...
fn nice_step(at_least: f64) -> f64 {
    if at_least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(at_least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= at_least)
        .unwrap_or(power)
}

fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e4 => (n / 1e3, "k"),
        n => (n, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"));
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_series() {
        let series =
            |name: &str| Series { name: name.to_string(), points: vec![(1.0, 10.0), (100.0, 25_000.0)] };
        let panel =
            Panel { label: "requests per second".to_string(), series: vec![series("put"), series("get")] };
        let svg = plot("title", "keys", true, &[panel.clone(), panel]);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        assert!(svg.contains(">30k<") || svg.contains(">25k<"), "{svg}");
    }

    #[test]
    fn steps_are_round_numbers() {
        assert_eq!([0.0, 0.3, 1.0, 21.0, 6000.0].map(nice_step), [1.0, 0.5, 1.0, 50.0, 10_000.0]);
    }
}
