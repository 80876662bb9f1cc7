//! Training as a picture: the loss, or what a stage is judged by, above; what else a run records below; one or several
//! runs, as pixels or as an SVG file.
//!
//! Everything is drawn here, letters included, so that the same rows give the same bytes on every machine.

pub mod axis; // ranges, ticks, labels
pub mod canvas; // a picture as a list of lines, texts and rectangles
pub mod font; // letters made of strokes
pub mod panel; // one coordinate system
pub mod raster; // shapes as pixels with soft edges
pub mod run; // the curves of a run
pub mod series; // smoothing and thinning of points
pub mod style; // measures and colours
pub mod svg; // shapes as an SVG file

pub mod compare; // one loss of several runs, by steps and by tokens
pub mod kind; // what a panel shows
pub mod story; // the stages of a training one after the other

mod draw; // from runs to shapes
mod fit; // which values a panel has
mod legend; // what each kind of line means

pub use draw::{Layout, layout, render};
pub use run::{By, Facts, Run};

use crate::checkpoint::disk::{replace_file, replace_text};
use crate::error::{Error, Result};
use canvas::Canvas;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use series::smoothing_reach;
use std::path::Path;

/// The picture in a run folder.
pub const PICTURE: &str = "loss.png";

/// What a picture shows beside the runs, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlotOptions {
    /// Heading; by default the run's name, or how many runs there are.
    pub title: Option<String>,
    /// Entropy of the text in nats per token, below which no model can stay: a horizontal line.
    pub entropy: Option<f64>,
    /// What runs from left to right.
    pub by: By,
    /// The number that is shown alone, for runs of [`Run::of_metric`]; by default what the runs are judged by and all
    /// that they record.
    pub metric: Option<String>,
    /// Whether the main panel is logarithmic; by default the numbers decide.
    pub log: bool,
    /// Steps that curves are smoothed over, 1 for none; by default about a 25th of the run.
    pub smooth: Option<usize>,
}

impl PlotOptions {
    /// How many points the smoothed value of a curve of `count` points takes in on either side; even.
    fn reach(&self, count: usize) -> usize {
        match self.smooth {
            None => smoothing_reach(count),
            Some(0 | 1) => 0,
            Some(window) => (window / 4 * 2).max(2),
        }
    }
}

/// Draws the run in `folder` into its `loss.png`, replacing the old picture as a whole.
pub fn draw_run(folder: &Path, entropy: Option<f64>) -> Result<()> {
    let options = PlotOptions { entropy, ..PlotOptions::default() };
    write(&render(&[Run::read(folder)?], &options), PICTURE, &folder.join(PICTURE))
}

/// Draws several run folders, each with its name, over each other into the file `path`.
///
/// Errors: a folder's rows are none, or lack what is asked for; the name of `path` ends neither in `.png` nor in
/// `.svg`.
pub fn draw_runs(folders: &[(String, impl AsRef<Path>)], options: &PlotOptions, path: &Path) -> Result<()> {
    let read = |(name, folder): &(String, _)| -> Result<Run> {
        let folder = AsRef::<Path>::as_ref(folder);
        let run = match &options.metric {
            Some(metric) => Run::read_metric(folder, metric)?,
            None => Run::read(folder)?,
        };
        if options.by == By::Time && run.elapsed.is_empty() && !(run.train.is_empty() && run.val.is_empty()) {
            return Err(Error::file(
                folder,
                "its rows have no times, as those of older runs; take --x steps or tokens",
            ));
        }
        Ok(Run { name: name.clone(), ..run })
    };
    let runs: Vec<Run> = folders.iter().map(read).collect::<Result<_>>()?;
    let kind = kind::main(&runs, options);
    let positive =
        || runs.iter().flat_map(|run| kind.shown(run)).any(|(_, _, a, b)| a.iter().chain(b).any(|p| p.1 > 0.0));
    if options.log && !positive() {
        return Err(Error::Usage(format!("--log: {} has no number above 0, so no logarithm", kind.title)));
    }
    write(&render(&runs, options), &draw::heading(&runs, options), path)
}

/// Draws one loss of several run folders, by steps and by tokens, into the file `path`.
pub fn draw_comparison(
    folders: &[impl AsRef<Path>],
    curve: compare::Curve,
    options: &PlotOptions,
    path: &Path,
) -> Result<()> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<_>>()?;
    write(&compare::render(&runs, curve, options), &draw::heading(&runs, options), path)
}

/// Draws the stages of a model's training, each a name and a run folder, one after the other into the file `path`.
pub fn draw_story(stages: &[(&str, impl AsRef<Path>)], path: &Path) -> Result<()> {
    let stage = |(name, folder): &(&str, _)| -> Result<Run> {
        Ok(Run { name: (*name).to_owned(), ..Run::read(AsRef::<Path>::as_ref(folder))? })
    };
    let stages: Vec<Run> = stages.iter().map(stage).collect::<Result<_>>()?;
    write(&story::render(&stages), "stages of training", path)
}

/// What a picture's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pixels.
    Png,
    /// Curves and texts.
    Svg,
}

impl Format {
    /// The one that a file's name asks for by its end.
    ///
    /// Errors: it ends in neither.
    pub fn of(path: &Path) -> Result<Format> {
        let end = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        match end.as_deref() {
            Some("png") => Ok(Format::Png),
            Some("svg") => Ok(Format::Svg),
            _ => Err(Error::file(path, "a picture is a PNG or an SVG file: let its name end in .png or .svg")),
        }
    }
}

/// Writes a picture in the format that the name of `path` ends in: the old file stays until the new one is complete.
fn write(picture: &Canvas, title: &str, path: &Path) -> Result<()> {
    if Format::of(path)? == Format::Svg {
        return replace_text(path, &svg::svg(picture, title));
    }
    let image = raster::raster(picture);
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::io(path, std::io::Error::other(e)))?;
    replace_file(path, |out| out.write_all(&bytes).map_err(|e| Error::io(path, e)))
}
