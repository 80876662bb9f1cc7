//! What the README repeats from the program is up to date.

use hadal::config::layers::PRESETS;
use hadal::kernels::table;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_kernel_table_is_what_the_program_prints() {
    let readme = readme();
    let (_, after) = readme.split_once("<!-- kernels -->\n").expect("the mark before the table");
    let (found, _) = after.split_once("<!-- /kernels -->").expect("the mark after the table");
    for (i, (found, expected)) in found.lines().zip(table().lines()).enumerate() {
        assert_eq!(found, expected, "line {} of the table: put the output of `hadal kernels` there", i + 1);
    }
    assert_eq!(found.trim(), table(), "put the output of `hadal kernels` between the marks");
}

#[test]
fn every_preset_is_mentioned() {
    for (preset, _) in PRESETS {
        assert!(readme().contains(&format!("| `{preset}` |")), "{preset}");
    }
}

/// Every path that the layout names, by its indentation.
#[test]
fn the_layout_names_what_is_there_and_leaves_no_folder_out() {
    let readme = readme();
    let (_, layout) = readme.split_once("## Layout\n\n").unwrap();
    let (layout, _) = layout.split_once("\n\n").unwrap();
    let mut named = Vec::new();
    for line in layout.lines() {
        let inside = line.starts_with("      ");
        let name = line.split_whitespace().next().unwrap().trim_end_matches('/');
        let path = if inside { format!("src/{name}") } else { name.to_owned() };
        assert!(root().join(&path).exists(), "{path}");
        named.push(path);
    }
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = format!("src/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(named.contains(&name) || name == "src/tokenizer.rs", "{name} is not in the layout");
    }
}
