//! Draws the figures for docs/pictures. They have no background, and their colors are readable on light
//! and on dark.

use std::path::Path;

use plotters::prelude::*;

use e2e::bench::Result;

const SIZE: (u32, u32) = (760, 380);
/// The colors of docs/pictures/draw.
const COLORS: [RGBColor; 2] = [RGBColor(0x3d, 0x82, 0xe0), RGBColor(0xe8, 0x77, 0x0c)];
const TEXT: RGBColor = RGBColor(0x80, 0x86, 0x91);
/// The maximum number of points in a line. More are not visible.
const POINTS: usize = 250;

/// A line with its name.
pub struct PlotLine {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Draws lines on axes that start at zero.
pub fn draw(name: &str, title: &str, [x, y]: [&str; 2], lines: &[PlotLine]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures").join(name).with_extension("svg");
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
    let font = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, font(18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&ToString::to_string)
        .y_label_formatter(&ToString::to_string)
        .label_style(font(13))
        .axis_desc_style(font(14))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.25))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, color) in lines.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(thinned(&line.points), color.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).label_font(font(14)).draw()?;
    area.present()?;
    Ok(())
}

/// Returns the cumulative distribution of the values in percent.
pub fn distribution(values: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    sorted.into_iter().zip(1..).map(|(value, number)| (value, f64::from(number) * 100.0 / count)).collect()
}

/// Returns at most about [`POINTS`] of the points, with the first and the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(place, _)| place % step == 0 || *place == last)
        .map(|(_, point)| *point)
        .collect()
}
