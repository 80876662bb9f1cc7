//! stub
use crate::error::Result;
use std::path::{Path, PathBuf};
/// stub
pub fn draw_run(_: &Path, _: Option<f64>) -> Result<()> { Ok(()) }
/// stub
pub fn draw_runs(_: &[PathBuf], _: &Path) -> Result<()> { Ok(()) }
