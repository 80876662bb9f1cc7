//! A test of the tests: bugs planted by patches of shader texts and of recordings, each of which the comparisons that
//! guard the crate must report. The crate itself has no hook for this.

mod common;
#[path = "common/differences.rs"]
mod differences;
#[path = "planted/model.rs"]
mod model;
#[path = "planted/model_bugs.rs"]
mod model_bugs;
#[path = "planted/operation_bugs.rs"]
mod operation_bugs;
#[path = "common/ops.rs"]
mod ops;
#[path = "planted/recording.rs"]
mod recording;
#[path = "planted/shader.rs"]
mod shader;
#[path = "planted/shader_bugs.rs"]
mod shader_bugs;
#[path = "planted/shader_bugs_8bit.rs"]
mod shader_bugs_8bit;
#[path = "planted/shader_bugs_mixed.rs"]
mod shader_bugs_mixed;
#[path = "planted/shader_bugs_objectives.rs"]
mod shader_bugs_objectives;
#[path = "planted/update.rs"]
mod update;
#[path = "planted/visibility.rs"]
mod visibility;

use hadal::gpu::pipeline::Pipelines;
use shader::ShaderBug;

/// Bugs that a comparison of one kind has to face at least.
const AT_LEAST: usize = 10;

/// Prints a row a bug and fails if one was missed. An outcome is the report that caught the bug, or why none did.
fn table(title: &str, rows: Vec<(String, Result<String, String>)>) {
    let short = |text: &str| text.chars().take(110).collect::<String>();
    let mut lines = vec![format!("{title}: {} bugs", rows.len())];
    for (what, outcome) in &rows {
        lines.push(match outcome {
            Ok(report) => format!("caught  {what:<66} {}", short(report)),
            Err(why) => format!("MISSED  {what:<66} {}", short(why)),
        });
    }
    assert!(rows.len() >= AT_LEAST, "{title}: hardly any bugs");
    println!("{}\n", lines.join("\n")); // in one piece, since the tests run side by side
    let missed: Vec<&String> = rows.iter().filter(|(_, outcome)| outcome.is_err()).map(|(what, _)| what).collect();
    assert!(missed.is_empty(), "not reported: {missed:#?}");
}

#[test]
fn the_kernel_comparison_reports_bugs_in_shaders() {
    let Some(gpu) = common::gpu() else { return };
    let mut compiled = Pipelines::default();
    let mut plant = |bug: &ShaderBug| (format!("{}: {}", bug.stem, bug.what), bug.plant(&gpu, &mut compiled));
    let bugs = [shader_bugs::BUGS, shader_bugs_objectives::BUGS, shader_bugs_8bit::BUGS, shader_bugs_mixed::BUGS];
    let bugs = bugs.concat();
    let mut rows: Vec<_> = bugs.iter().map(&mut plant).collect();
    rows.extend(shader_bugs_mixed::skipped(&gpu));
    table("kernels beside their references", rows);
}

#[test]
fn central_differences_report_bugs_in_the_steps_of_operations() {
    table("operations beside central differences", operation_bugs::outcomes());
}

#[test]
fn the_independent_judge_reports_bugs_in_the_micro_step() {
    table("the micro-step beside the independent judge", model_bugs::outcomes());
}

#[test]
fn attention_written_out_reports_mistakes_in_who_sees_whom() {
    table("the reference's attention beside the formula", visibility::outcomes());
}

#[test]
#[should_panic(expected = "attention: document_start falls from 3 to 0")]
fn padding_that_sees_the_first_document_of_its_row_breaks_a_contract() {
    model_bugs::breach(|model| {
        let batch = &mut model.batches[0];
        let padding = batch.length - 2;
        batch.document_start[3..padding].fill(3);
    });
}

#[test]
#[should_panic(expected = "embed_backward: token_order is not that of ids and places")]
fn the_order_of_another_batch_breaks_a_contract() {
    model_bugs::breach(|model| {
        let other = (model.batches[1].token_order.clone(), model.batches[1].segments.clone());
        (model.batches[0].token_order, model.batches[0].segments) = other;
    });
}

#[test]
fn a_written_out_update_reports_bugs_in_the_recorded_one() {
    table("the update beside AdamW written out", update::outcomes());
}
