//! Loss curves as a picture: the loss above; the numbers of preference training, the experts' loads, the gradient norm
//! and the learning rate below; one or several runs.
//!
//! Everything is drawn here, letters included, so that the same rows give the same bytes on every machine.

pub mod axis; // ranges, ticks, labels
pub mod canvas; // lines, texts and rectangles with soft edges
pub mod font; // letters made of strokes
pub mod panel; // one coordinate system
pub mod series; // smoothing and thinning of points
pub mod style; // measures and colours

pub mod compare; // one loss of several runs, by updates and by tokens
pub mod stage; // what preference training adds
pub mod story; // the stages of a training one after the other

mod draw; // from runs to pixels
mod legend; // what each kind of line means

pub use draw::{Layout, layout, render};

use crate::checkpoint::disk::replace_file;
use crate::error::{Error, Result};
use crate::train::journal;
use crate::train::rows::{ExpertLoad, Numbers, Row};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use series::Point;
use stage::Curves;
use std::path::Path;

/// The picture in a run folder.
pub const PICTURE: &str = "loss.png";

/// The curves of one run: (updates done, value) in ascending order; values that are not finite are gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Name in the legend.
    pub name: String,
    /// Training loss, in nats a token but for preference training.
    pub train: Vec<Point>,
    /// Validation loss, likewise.
    pub val: Vec<Point>,
    /// Target tokens trained on since the beginning.
    pub tokens: Vec<Point>,
    /// Learning rate.
    pub learning_rate: Vec<Point>,
    /// Norm of the gradient before clipping; empty if it was not recorded.
    pub grad_norm: Vec<Point>,
    /// Largest share of a layer's load on one expert, over the layers; empty for models without experts.
    pub busiest: Vec<Point>,
    /// Smallest share.
    pub idlest: Vec<Point>,
    /// Numbers of preference training, of updates; empty for other runs.
    pub numbers: Curves,
    /// The same of validations.
    pub val_numbers: Curves,
}

impl Run {
    /// The curves in the rows of a journal.
    pub fn from_rows(name: &str, rows: &[Row]) -> Run {
        let mut run = Run { name: name.to_owned(), ..Run::default() };
        for row in rows {
            let step = row.step() as f64;
            match row {
                Row::Train(row) => {
                    run.train.push((step, row.loss));
                    run.tokens.push((step, row.tokens as f64));
                    run.learning_rate.push((step, row.lr));
                    run.grad_norm.push((step, row.grad_norm));
                    add(&mut run.numbers, step, &row.numbers);
                    if !row.expert_load.is_empty() {
                        let over = |pick: fn(f64, f64) -> f64, share: fn(&ExpertLoad) -> f64| {
                            row.expert_load.iter().map(share).fold(f64::NAN, pick)
                        };
                        run.busiest.push((step, over(f64::max, |load| load.max)));
                        run.idlest.push((step, over(f64::min, |load| load.min)));
                    }
                }
                Row::Val(row) => {
                    run.val.push((step, row.loss));
                    add(&mut run.val_numbers, step, &row.numbers);
                }
            }
        }
        run
    }

    /// Whether it is one of preference training, whose loss is none of text.
    pub fn prefers(&self) -> bool {
        !self.numbers.is_empty() || !self.val_numbers.is_empty()
    }

    /// The curves of a run folder, under the folder's name.
    pub fn read(folder: &Path) -> Result<Run> {
        let whole = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
        let name = whole.file_name().map_or("run".into(), |name| name.to_string_lossy());
        Ok(Run::from_rows(&name, &journal::read_rows(folder)?))
    }
}

fn add(curves: &mut Curves, step: f64, numbers: &Numbers) {
    for (name, value) in numbers {
        match curves.get_mut(name) {
            Some(curve) => curve.push((step, *value)),
            None => drop(curves.insert(name.clone(), vec![(step, *value)])),
        }
    }
}

/// What a picture shows beside the runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlotOptions {
    /// Heading; by default the run's name, or how many runs there are.
    pub title: Option<String>,
    /// Entropy of the text in nats a token, below which no model can stay: a horizontal line.
    pub entropy: Option<f64>,
}

/// Draws the run in `folder` into its `loss.png`, replacing the old picture as a whole.
pub fn draw_run(folder: &Path, entropy: Option<f64>) -> Result<()> {
    let options = PlotOptions { title: None, entropy };
    write_png(&render(&[Run::read(folder)?], &options), &folder.join(PICTURE))
}

/// Draws several run folders over each other into the PNG file `path`.
pub fn draw_runs(folders: &[impl AsRef<Path>], options: &PlotOptions, path: &Path) -> Result<()> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<_>>()?;
    write_png(&render(&runs, options), path)
}

/// Draws one loss of several run folders, by updates and by tokens, into the PNG file `path`.
pub fn draw_comparison(
    folders: &[impl AsRef<Path>],
    curve: compare::Curve,
    options: &PlotOptions,
    path: &Path,
) -> Result<()> {
    let runs: Vec<Run> = folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<_>>()?;
    write_png(&compare::render(&runs, curve, options), path)
}

/// Draws the stages of a model's training, each a name and a run folder, one after the other into the PNG file `path`.
pub fn draw_story(stages: &[(&str, impl AsRef<Path>)], path: &Path) -> Result<()> {
    let stage = |(name, folder): &(&str, _)| -> Result<Run> {
        Ok(Run::from_rows(name, &journal::read_rows(AsRef::<Path>::as_ref(folder))?))
    };
    let stages: Vec<Run> = stages.iter().map(stage).collect::<Result<_>>()?;
    write_png(&story::render(&stages), path)
}

/// Writes a picture as PNG: the old file stays until the new one is complete.
pub fn write_png(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)
        .map_err(|e| Error::io(path, std::io::Error::other(e)))?;
    replace_file(path, |out| out.write_all(&bytes).map_err(|e| Error::io(path, e)))
}
