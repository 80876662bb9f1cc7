//! The text preprocessor of the shaders: constants, imports, conditions and unrolled loops. It knows nothing of wgpu.
//!
//! | line or text | becomes |
//! |---|---|
//! | `#import shared/index` | that file of `shaders/`, once |
//! | `#define NAME EXPR` | nothing; sets NAME unless the kernel's constants set it already |
//! | `#{EXPR}` | the value of an integer expression |
//! | `#{EXPR ? TEXT : TEXT}` | the first text where the expression is not 0, else the second |
//! | `#if EXPR` … `#else` … `#end` | the branch taken |
//! | `#for i in A..B` … `#end` | its lines once for each i, `#{i}` replaced |
//!
//! Where a constant `HALF_...` is not 0 (a binding is stored as f16), HALVES is 1 and `enable f16;` goes in front; else
//! HALVES is 0.
//!
//! Expressions: integers, names, parentheses, `+ - * / %`, `== != < <= > >=`, `&& ||`. Loops need it because naga
//! writes loops without unroll hints, and conditions because `override` constants cannot change text.

use std::collections::HashMap;

/// Shared files by the name that `#import` uses.
pub(super) const SHARED: &[(&str, &str)] = &[
    ("shared/coop", include_str!("../../shaders/shared/coop.wgsl")),
    ("shared/coop_sums", include_str!("../../shaders/shared/coop_sums.wgsl")),
    ("shared/coop8", include_str!("../../shaders/shared/coop8.wgsl")),
    ("shared/coop8_sums", include_str!("../../shaders/shared/coop8_sums.wgsl")),
    ("shared/elements", include_str!("../../shaders/shared/elements.wgsl")),
    ("shared/attention", include_str!("../../shaders/shared/attention.wgsl")),
    ("shared/flash", include_str!("../../shaders/shared/flash.wgsl")),
    ("shared/flash_keys", include_str!("../../shaders/shared/flash_keys.wgsl")),
    ("shared/flash_queries", include_str!("../../shaders/shared/flash_queries.wgsl")),
    ("shared/index", include_str!("../../shaders/shared/index.wgsl")),
    ("shared/random", include_str!("../../shaders/shared/random.wgsl")),
    ("shared/product", include_str!("../../shaders/shared/product.wgsl")),
    ("shared/reduce", include_str!("../../shaders/shared/reduce.wgsl")),
    ("shared/sigmoid", include_str!("../../shaders/shared/sigmoid.wgsl")),
    ("shared/thin", include_str!("../../shaders/shared/thin.wgsl")),
    ("shared/thin_sums", include_str!("../../shaders/shared/thin_sums.wgsl")),
    ("shared/team", include_str!("../../shaders/shared/team.wgsl")),
    ("shared/state", include_str!("../../shaders/shared/state.wgsl")),
];

/// What is wrong with a shader's text, and in which line of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PreprocessError {
    /// Line of the text in which the directive stands, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Expands `text` with `constants`; the result is plain WGSL.
pub fn preprocess(text: &str, constants: &[(&str, i64)]) -> Result<String, PreprocessError> {
    let names = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let mut expander = Expander { names, imported: Vec::new(), output: String::new() };
    let halves = constants.iter().any(|&(name, value)| name.starts_with("HALF_") && value != 0);
    expander.names.insert("HALVES".to_owned(), i64::from(halves));
    if halves {
        expander.output.push_str("enable f16;\n");
    }
    let lines: Vec<&str> = text.lines().collect();
    expander.block(&lines, 0)?;
    Ok(expander.output)
}

struct Expander {
    names: HashMap<String, i64>,
    imported: Vec<String>,
    output: String,
}

impl Expander {
    /// Expands `lines`; `first` is the number of lines before them.
    fn block(&mut self, lines: &[&str], first: usize) -> Result<(), PreprocessError> {
        let mut at = 0;
        while at < lines.len() {
            let error = |reason: String| PreprocessError { line: first + at + 1, reason };
            let line = lines[at].trim_start();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match word {
                "#import" => self.import(rest.trim()).map_err(error)?,
                "#define" => {
                    let (name, value) = rest.trim().split_once(' ').unwrap_or((rest.trim(), "1"));
                    let value = self.value(value).map_err(error)?;
                    self.names.entry(name.to_owned()).or_insert(value);
                }
                "#if" | "#for" => {
                    let (otherwise, end) = matching_end(&lines[at + 1..]).map_err(error)?;
                    let body = &lines[at + 1..at + 1 + end];
                    let split = otherwise.unwrap_or(end);
                    if word == "#for" {
                        self.unroll(rest, body, first + at + 1)?;
                    } else if self.value(rest).map_err(error)? != 0 {
                        self.block(&body[..split], first + at + 1)?;
                    } else if split < end {
                        self.block(&body[split + 1..], first + at + 2 + split)?;
                    }
                    at += end + 1;
                }
                "#else" | "#end" => return Err(error(format!("{word} without #if or #for"))),
                _ => {
                    let text = self.substitute(lines[at]).map_err(error)?;
                    self.output.push_str(&text);
                    self.output.push('\n');
                }
            }
            at += 1;
        }
        Ok(())
    }

    fn import(&mut self, name: &str) -> Result<(), String> {
        if self.imported.iter().any(|known| known == name) {
            return Ok(());
        }
        self.imported.push(name.to_owned());
        let text = SHARED.iter().find(|(known, _)| *known == name).ok_or(format!("no shared file {name:?}"))?.1;
        let lines: Vec<&str> = text.lines().collect();
        self.block(&lines, 0).map_err(|e| format!("in {name}, {e}"))
    }

    fn unroll(&mut self, head: &str, body: &[&str], first: usize) -> Result<(), PreprocessError> {
        let error = |reason: String| PreprocessError { line: first, reason };
        let malformed = || error(format!("#for {head}: expected #for NAME in FROM..TO"));
        let (name, range) = head.trim().split_once(" in ").ok_or_else(malformed)?;
        let (from, to) = range.split_once("..").ok_or_else(malformed)?;
        let (from, to) = (self.value(from).map_err(error)?, self.value(to).map_err(error)?);
        let outer = self.names.get(name).copied();
        for i in from..to {
            self.names.insert(name.to_owned(), i);
            self.block(body, first)?;
        }
        match outer {
            Some(value) => self.names.insert(name.to_owned(), value),
            None => self.names.remove(name),
        };
        Ok(())
    }

    fn substitute(&self, line: &str) -> Result<String, String> {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find("#{") {
            let end = rest[start..].find('}').ok_or("#{ without }")? + start;
            out.push_str(&rest[..start]);
            out.push_str(&self.replacement(&rest[start + 2..end])?);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What stands for `#{inner}`.
    fn replacement(&self, inner: &str) -> Result<String, String> {
        let Some((condition, texts)) = inner.split_once(" ? ") else { return Ok(self.value(inner)?.to_string()) };
        let (first, second) = texts.split_once(" : ").ok_or_else(|| format!("#{{{inner}}} lacks the second text"))?;
        Ok(if self.value(condition)? != 0 { first } else { second }.to_owned())
    }

    fn value(&self, text: &str) -> Result<i64, String> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, at: 0, names: &self.names };
        let value = parser.binary(0)?;
        if parser.at == tokens.len() { Ok(value) } else { Err(format!("cannot read the expression {text:?}")) }
    }
}

/// Positions of this block's `#else`, if any, and `#end`, counted from the line after its head.
fn matching_end(lines: &[&str]) -> Result<(Option<usize>, usize), String> {
    let (mut depth, mut otherwise) = (0, None);
    for (i, line) in lines.iter().enumerate() {
        match line.split_whitespace().next() {
            Some("#if" | "#for") => depth += 1,
            Some("#else") if depth == 0 => otherwise = Some(i),
            Some("#end") if depth == 0 => return Ok((otherwise, i)),
            Some("#end") => depth -= 1,
            _ => {}
        }
    }
    Err("#if or #for without #end".to_owned())
}

/// Binary operators by rising precedence; longer ones first within a row.
const OPERATORS: &[&[&str]] = &[&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

fn tokens(text: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if word(c) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if let Some(op) = OPERATORS.iter().copied().flatten().find(|op| rest.starts_with(**op)) {
            op.len()
        } else if c == '(' || c == ')' {
            1
        } else {
            return Err(format!("unexpected {c:?} in the expression {text:?}"));
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    at: usize,
    names: &'a HashMap<String, i64>,
}

impl Parser<'_> {
    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(operators) = OPERATORS.get(level) else { return self.atom() };
        let mut left = self.binary(level + 1)?;
        while let Some(op) = self.tokens.get(self.at).filter(|t| operators.contains(t)) {
            self.at += 1;
            let right = self.binary(level + 1)?;
            left = apply(op, left, right)?;
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<i64, String> {
        let token = *self.tokens.get(self.at).ok_or("an expression ends too early")?;
        self.at += 1;
        if token == "(" {
            let value = self.binary(0)?;
            self.at += 1;
            return match self.tokens.get(self.at - 1) {
                Some(&")") => Ok(value),
                _ => Err("( without )".to_owned()),
            };
        }
        if token == "-" {
            return Ok(-self.atom()?);
        }
        match token.parse() {
            Ok(value) => Ok(value),
            Err(_) => self.names.get(token).copied().ok_or(format!("no constant {token:?}")),
        }
    }
}

fn apply(op: &str, a: i64, b: i64) -> Result<i64, String> {
    Ok(match op {
        "||" => i64::from(a != 0 || b != 0),
        "&&" => i64::from(a != 0 && b != 0),
        "==" => i64::from(a == b),
        "!=" => i64::from(a != b),
        "<=" => i64::from(a <= b),
        ">=" => i64::from(a >= b),
        "<" => i64::from(a < b),
        ">" => i64::from(a > b),
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a.checked_div(b).ok_or("division by zero")?,
        _ => a.checked_rem(b).ok_or("division by zero")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_conditions_and_constants_expand() {
        let text =
            "#define N 3\n#for i in 0..N\n#if i % 2 == 0\nlet a#{i} = #{(i + 1) * N}u;\n#else\nodd#{i}\n#end\n#end\n";
        assert_eq!(preprocess(text, &[]).unwrap(), "let a0 = 3u;\nodd1\nlet a2 = 9u;\n");
        assert_eq!(preprocess(text, &[("N", 1)]).unwrap(), "let a0 = 1u;\n");
    }

    #[test]
    fn one_of_two_texts_is_taken() {
        let text = "a: array<#{HALF_A ? f16 : f32}>; b: #{N == 4 && HALF_A ? vec4<f16> : vec4<f32>}(x ? y : z)\n";
        let expand = |half, n| preprocess(text, &[("HALF_A", half), ("N", n)]).unwrap();
        assert_eq!(expand(1, 4), "enable f16;\na: array<f16>; b: vec4<f16>(x ? y : z)\n");
        assert_eq!(expand(1, 1), "enable f16;\na: array<f16>; b: vec4<f32>(x ? y : z)\n");
        assert_eq!(expand(0, 4), "a: array<f32>; b: vec4<f32>(x ? y : z)\n");
        assert_eq!(preprocess("#{1 ? a::b : c}#{0 ? a : }", &[]).unwrap(), "a::b\n", "texts may be anything or empty");
    }

    #[test]
    fn f16_is_enabled_where_a_binding_is_stored_so() {
        let text = "#if HALVES\nhalves\n#end\nx\n";
        assert_eq!(preprocess(text, &[]).unwrap(), "x\n");
        assert_eq!(preprocess(text, &[("HALF_A", 0), ("LANES", 4)]).unwrap(), "x\n");
        let halves = preprocess(text, &[("HALF_A", 0), ("HALF_B", 1)]).unwrap();
        assert_eq!(halves, "enable f16;\nhalves\nx\n");
        // A `#define` of the text is what the text says of a form that never stores so: no f16 is needed for it.
        assert_eq!(preprocess("#define HALF_C 1\n#if HALVES\nhalves\n#end\n", &[]).unwrap(), "");
    }

    #[test]
    fn malformed_choices_name_their_line_and_what_they_lack() {
        for (text, reason) in [
            ("#{1 ? a}", "#{1 ? a} lacks the second text"),
            ("#{1 ? a : b", "#{ without }"),
            ("#{MISSING ? a : b}", "no constant \"MISSING\""),
            ("#{ ? a : b}", "an expression ends too early"),
            ("#{1? a : b}", "unexpected '?' in the expression \"1? a : b\""),
            ("#{1 2 ? a : b}", "cannot read the expression \"1 2\""),
        ] {
            let error = preprocess(&format!("first\n{text}\n"), &[]).unwrap_err();
            assert_eq!((error.line, error.reason.as_str()), (2, reason), "{text}");
        }
    }

    #[test]
    fn imports_expand_once_and_mistakes_name_their_line() {
        let once = preprocess("#import shared/index\n#import shared/index\n", &[]).unwrap();
        assert_eq!(once.matches("fn group_index").count(), 1);
        for (text, line) in [("x\n#{MISSING}\n", 2), ("#if 1\n", 1), ("#end\n", 1), ("a\n#import none\n", 2)] {
            assert_eq!(preprocess(text, &[]).unwrap_err().line, line, "{text:?}");
        }
    }
}
