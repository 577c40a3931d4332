//! Line charts of the last five minutes as inline SVG.
//!
//! The plot stretches to its card and its strokes do not; the labels are text beside it, so
//! they stay sharp at every width. Nothing needs a style attribute, which the console's
//! content policy forbids: ticks are evenly spaced on both scales.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use crate::live::WINDOW_S;

/// The height of the plot in its own units; the width is one a second.
const HEIGHT: f64 = 100.0;

/// One chart, ready to draw.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What the vertical axis counts: `per second`.
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    pub(super) lines: Vec<Line>,
    /// The chart in a sentence, for those who do not see it.
    pub(super) description: String,
}

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The class that colours it.
    pub(super) class: &'static str,
    pub(super) stroke: Stroke,
    /// A second each, the newest last; `None` breaks the line.
    pub(super) values: Vec<Option<f64>>,
    /// The value now, as text, for the legend.
    pub(super) now: String,
}

/// Lines of one chart differ in more than their colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    /// With the area below it filled.
    Filled,
    Solid,
    Dashed,
}

impl Stroke {
    const fn class(self) -> &'static str {
        match self {
            Self::Filled => "filled",
            Self::Solid => "solid",
            Self::Dashed => "dashed",
        }
    }
}

/// A vertical axis with evenly spaced ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scale {
    /// From 0 to `top`.
    Linear { top: f64 },
    /// Whole decades, from `10^low` to `10^high`.
    Log { low: i32, high: i32 },
}

impl Scale {
    /// Reaches from 0 over the largest value, to 1, 2 or 5 times a power of ten.
    pub(super) fn linear<'a>(values: impl Iterator<Item = &'a Option<f64>>) -> Self {
        let largest = values.flatten().copied().fold(1.0, f64::max);
        let magnitude = 10f64.powf(largest.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * magnitude >= largest);
        Self::Linear { top: step.unwrap_or(10.0) * magnitude }
    }

    /// The decades that hold all values, at least two; `floor` is the lowest that is shown.
    pub(super) fn log<'a>(values: impl Iterator<Item = &'a Option<f64>>, floor: f64) -> Self {
        let (mut least, mut most) = (f64::INFINITY, floor * 10.0);
        for value in values.flatten() {
            least = least.min(*value);
            most = most.max(*value);
        }
        let least = if least.is_finite() { least.max(floor) } else { floor };
        let low = least.log10().floor() as i32;
        let high = (most.log10().ceil() as i32).max(low + 2);
        Self::Log { low, high }
    }

    /// Where a value lies: 0 at the bottom, 1 at the top.
    fn position(&self, value: f64) -> f64 {
        match self {
            Self::Linear { top } => value / top,
            Self::Log { low, high } => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(*low)) / f64::from(high - low)
            }
        }
        .clamp(0.0, 1.0)
    }

    /// The values of the ticks, from the top down.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { top } => vec![*top, top / 2.0, 0.0],
            Self::Log { low, high } => (*low..=*high).rev().map(|n| 10f64.powi(n)).collect(),
        }
    }
}

impl Chart {
    /// The card; `label` words a tick.
    pub(super) fn render(&self, label: impl Fn(f64) -> String) -> Markup {
        let ticks = self.scale.ticks();
        let gaps = (ticks.len() - 1) as f64;
        html! {
            figure.chart {
                figcaption {
                    h3 { (self.title) " " span.unit { (self.unit) } }
                    ul.legend {
                        @for line in &self.lines {
                            li { (key(line)) (line.name) " " strong { (line.now) } }
                        }
                    }
                }
                div.plot {
                    ol.ticks aria-hidden="true" {
                        @for tick in &ticks { li { (label(*tick)) } }
                    }
                    svg viewBox=(format!("0 0 {WINDOW_S} {HEIGHT}")) preserveAspectRatio="none"
                        role="img" aria-label=(self.description) {
                        @for index in 0..ticks.len() {
                            path.grid d=(format!("M0 {:.1}H{WINDOW_S}", HEIGHT * index as f64 / gaps)) {}
                        }
                        @for line in &self.lines {
                            @let (stroke, area) = self.paths(line);
                            @if line.stroke == Stroke::Filled {
                                path.area.{(line.class)} d=(area) {}
                            }
                            path.line.{(line.stroke.class())}.{(line.class)} d=(stroke) {}
                        }
                    }
                    ol.minutes aria-hidden="true" {
                        li { "−5 min" } li { "−4" } li { "−3" } li { "−2" } li { "−1" } li { "now" }
                    }
                }
            }
        }
    }

    /// The line, and the area between it and the bottom.
    fn paths(&self, line: &Line) -> (String, String) {
        let (mut stroke, mut area) = (String::new(), String::new());
        let first_x = WINDOW_S - line.values.len().min(WINDOW_S) + 1;
        let mut x = first_x;
        for run in line.values.split(Option::is_none) {
            if !run.is_empty() {
                let piece = self.piece(x, run);
                let last = x + run.len() - 1;
                write!(area, "{piece}V{HEIGHT}H{x}Z").expect("a string takes it all");
                stroke.push_str(&piece);
                if last == x {
                    // A line of no length, which a round cap makes a dot.
                    stroke.push_str("h0");
                }
            }
            x += run.len() + 1;
        }
        (stroke, area)
    }

    /// A line without breaks. What is level is one step, since most lines are level mostly.
    fn piece(&self, first_x: usize, values: &[Option<f64>]) -> String {
        let mut piece = String::new();
        let (mut drawn_x, mut drawn_y) = (first_x, f64::NAN);
        for (x, value) in (first_x..).zip(values.iter().flatten()) {
            let y = (HEIGHT * (1.0 - self.scale.position(*value)) * 10.0).round() / 10.0;
            if y == drawn_y {
                continue;
            }
            if x > drawn_x + 1 {
                write!(piece, "H{}", x - 1).expect("a string takes it all");
            }
            let command = if x == first_x { 'M' } else { 'L' };
            write!(piece, "{command}{x} {y}").expect("a string takes it all");
            (drawn_x, drawn_y) = (x, y);
        }
        let last_x = first_x + values.len() - 1;
        if last_x > drawn_x {
            write!(piece, "H{last_x}").expect("a string takes it all");
        }
        piece
    }
}

/// A piece of the line, for the legend.
fn key(line: &Line) -> Markup {
    html! {
        svg.key viewBox="0 0 22 8" aria-hidden="true" {
            path.line.{(line.stroke.class())}.{(line.class)} d="M1 4H21" {}
        }
        (PreEscaped(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[Option<f64>]) -> Line {
        let now = String::new();
        Line { name: "p50", class: "typical", stroke: Stroke::Filled, values: values.to_vec(), now }
    }

    fn chart(scale: Scale) -> Chart {
        Chart { title: "T", unit: "", scale, lines: Vec::new(), description: String::new() }
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_number() {
        for (largest, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (4.0, 5.0),
            (51.0, 100.0),
            (100.0, 100.0),
            (142.0, 200.0),
        ] {
            assert_eq!(Scale::linear([Some(largest), None].iter()), Scale::Linear { top });
        }
        assert_eq!(Scale::linear([].iter()), Scale::Linear { top: 1.0 });
    }

    #[test]
    fn a_logarithmic_axis_has_whole_decades() {
        for (values, low, high) in [
            (vec![], 1, 3),
            (vec![Some(1500.0), Some(30_000.0)], 3, 5),
            (vec![Some(1500.0), Some(1600.0)], 3, 5),
            (vec![Some(0.0), Some(1600.0)], 1, 4),
            (vec![Some(100.0), None, Some(2e9)], 2, 10),
        ] {
            assert_eq!(Scale::log(values.iter(), 10.0), Scale::Log { low, high }, "{values:?}");
        }
    }

    #[test]
    fn a_line_ends_at_now_and_breaks_where_nothing_was() {
        let chart = chart(Scale::Linear { top: 10.0 });
        for (values, stroke, area) in [
            (vec![], "", ""),
            (vec![None, None], "", ""),
            (vec![Some(0.0), Some(10.0)], "M299 100L300 0", "M299 100L300 0V100H299Z"),
            (
                vec![Some(5.0), None, Some(10.0), Some(10.0)],
                "M297 50h0M299 0H300",
                "M297 50V100H297ZM299 0H300V100H299Z",
            ),
            (
                vec![Some(5.0), Some(5.0), Some(5.0), Some(1.26)],
                "M297 50H299L300 87.4",
                "M297 50H299L300 87.4V100H297Z",
            ),
            (vec![Some(99.0), None], "M299 0h0", "M299 0V100H299Z"),
            (vec![None, Some(0.0)], "M300 100h0", "M300 100V100H300Z"),
        ] {
            assert_eq!(chart.paths(&line(&values)), (stroke.to_owned(), area.to_owned()));
        }
    }
}
