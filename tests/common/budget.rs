//! Limits on the size of source files, lines and functions, and how they are counted.

/// Lines of a file.
pub const FILE_LINES: usize = 400;
/// Characters of a line.
pub const LINE_CHARACTERS: usize = 120;
/// Lines of a Rust function, signature and braces included. Shaders are exempt: registers do not pass through calls.
pub const FUNCTION_LINES: usize = 60;

/// What exceeds a limit in the text of `file`; `dispatchers` are functions that may be longer.
pub fn excess(file: &str, text: &str, dispatchers: &[(&str, &str)]) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    if lines.len() > FILE_LINES {
        found.push(format!("{file}: {} lines", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let characters = line.chars().count();
        if characters > LINE_CHARACTERS {
            found.push(format!("{file}:{}: {characters} characters", i + 1));
        }
    }
    let functions = if file.ends_with(".rs") { functions(&lines) } else { Vec::new() };
    for (name, first, length) in functions {
        if length > FUNCTION_LINES && !dispatchers.contains(&(file, name)) {
            found.push(format!("{file}:{first}: {name} has {length} lines"));
        }
    }
    found
}

/// Name, first line and number of lines of each function of formatted Rust: it ends with the first brace that
/// is indented as its first line.
fn functions<'t>(lines: &[&'t str]) -> Vec<(&'t str, usize, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let head = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "const fn ", "pub const fn "];
        let Some(rest) = head.iter().find_map(|head| words.strip_prefix(head)) else { continue };
        let name = rest.split(['(', '<']).next().unwrap_or_default();
        let end = lines[i..].iter().position(|l| indent(l) == indent(line) && l.trim_start() == "}");
        // A function on one line, or one without a body, has no brace of its own.
        let own = !line.trim_end().ends_with(['}', ';']);
        found.push((name, i + 1, if own { end.map_or(1, |end| end + 1) } else { 1 }));
    }
    found
}

#[test]
fn long_files_lines_and_functions_are_reported() {
    let body = |n: usize| format!("    fn long(\n{}    }}\n", "        x;\n".repeat(n - 2));
    assert_eq!(excess("f.rs", &body(FUNCTION_LINES), &[]), [""; 0]);
    assert_eq!(excess("f.rs", &body(FUNCTION_LINES + 1), &[]), ["f.rs:1: long has 61 lines"]);
    assert_eq!(excess("f.rs", &body(FUNCTION_LINES + 1), &[("f.rs", "long")]), [""; 0]);
    assert_eq!(excess("f.wgsl", &body(FUNCTION_LINES + 1), &[]), [""; 0]);
    assert_eq!(excess("f.rs", &"é".repeat(LINE_CHARACTERS), &[]), [""; 0]);
    assert_eq!(excess("f.rs", &"é".repeat(LINE_CHARACTERS + 1), &[]), ["f.rs:1: 121 characters"]);
    assert_eq!(excess("f.rs", &"\n".repeat(FILE_LINES), &[]), [""; 0]);
    assert_eq!(excess("f.rs", &"\n".repeat(FILE_LINES + 1), &[]), ["f.rs: 401 lines"]);
}
