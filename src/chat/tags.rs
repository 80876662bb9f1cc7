//! What Jinja2 as transformers sets it up reads and minijinja does not: rewritten in a template's source before it is
//! parsed.
//!
//! | in the template | rewritten |
//! |---|---|
//! | `{% generation %}` .. `{% endgeneration %}` | a filter block, by whose marks the text between is found again |
//! | `a % b`, where a may be a format and b its arguments | a call of a function |

/// The filter that marks what stands between the tags of generation.
pub const GENERATION: &str = "__generation";
/// The function that formats, or divides.
pub const PERCENT: &str = "__percent";

/// Words between operands.
const WORDS: [&str; 9] = ["and", "or", "not", "in", "is", "if", "else", "elif", "recursive"];

/// A source with line feeds between its lines, whatever stood there.
pub fn lines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// The source as minijinja reads it.
pub fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        rest = match tag.get(..2) {
            Some("{#") => copy(&mut out, tag, tag.find("#}").map_or(tag.len(), |end| end + 2)),
            Some("{{") => expression(&mut out, tag, "}}"),
            Some("{%") => block(&mut out, tag),
            _ => copy(&mut out, tag, 1),
        };
    }
    out + rest
}

/// Copies `bytes` of `text`, and gives what follows.
fn copy<'t>(out: &mut String, text: &'t str, bytes: usize) -> &'t str {
    let (taken, rest) = text.split_at(bytes);
    out.push_str(taken);
    rest
}

/// The first word of a block and where it stands.
fn word(tag: &str) -> (usize, &str) {
    let start = tag.len() - tag[2..].trim_start_matches(['-', '+']).trim_start().len();
    let length = tag[start..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tag.len() - start);
    (start, &tag[start..start + length])
}

/// Copies a block's tag, or all of a raw block.
fn block<'t>(out: &mut String, tag: &'t str) -> &'t str {
    let (start, name) = word(tag);
    let after = start + name.len();
    let renamed = match name {
        "generation" => format!("filter {GENERATION}"),
        "endgeneration" => "endfilter".to_owned(),
        "raw" => {
            let ends = |at: &usize| word(&tag[*at..]).1 == "endraw";
            let end = tag.match_indices("{%").map(|(at, _)| at).find(ends);
            return copy(out, tag, end.map_or(tag.len(), |at| at + 2));
        }
        _ => name.to_owned(),
    };
    out.push_str(&tag[..start]);
    out.push_str(&renamed);
    expression_after(out, &tag[after..], "%}")
}

fn expression<'t>(out: &mut String, tag: &'t str, end: &str) -> &'t str {
    out.push_str(&tag[..2]);
    expression_after(out, &tag[2..], end)
}

/// Operands of one group: a pair of brackets, or a whole tag.
#[derive(Default)]
struct Group {
    /// Whether an operand stands there that what comes goes on with, or works on.
    operand: bool,
    /// Where in the output the first operand of a product begins; none between operands.
    product: Option<usize>,
    /// Whether the second argument of a rewritten `%` is under way.
    open: bool,
}

impl Group {
    /// An operand goes on at the end of `out`, or begins there.
    fn operand(&mut self, out: &str) {
        self.product.get_or_insert(out.len());
        self.operand = true;
    }

    /// An operator comes, inside of a product.
    fn operator(&mut self) {
        self.operand = false;
    }

    /// A sign comes: of the operand that follows, or between two.
    fn sign(&mut self, out: &mut String) {
        if self.operand {
            self.end(out);
        } else {
            self.product.get_or_insert(out.len());
        }
    }

    /// The operand is over: a rewritten `%` has its second argument.
    fn close(&mut self, out: &mut String) {
        if std::mem::take(&mut self.open) {
            out.insert(out.trim_end().len(), ')');
        }
    }

    /// The product is over.
    fn end(&mut self, out: &mut String) {
        self.close(out);
        self.operator();
        self.product = None;
    }

    /// Makes what stands before `%` the first argument of a call; whether there is something.
    fn percent(&mut self, out: &mut String) -> bool {
        self.close(out);
        let Some(start) = self.product.filter(|_| self.operand) else { return false };
        self.operator();
        out.insert_str(start, &format!("{PERCENT}("));
        out.push(',');
        self.open = true;
        true
    }
}

/// Copies an expression up to and with the tag's `end`, with every `%` in it rewritten, and gives what follows.
fn expression_after<'t>(out: &mut String, text: &'t str, end: &str) -> &'t str {
    let mut groups = vec![Group::default()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let outermost = groups.len() == 1;
        let Some(group) = groups.last_mut() else { break };
        let closing = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if outermost && closing.starts_with(end) {
            group.end(out);
            return copy(out, rest, rest.len() - closing.len() + end.len());
        }
        if c == '%' && group.percent(out) {
            rest = &rest[1..];
            continue;
        }
        let length = token(out, rest, c, &mut groups);
        rest = copy(out, rest, length);
    }
    rest
}

/// Tells the innermost of `groups` what token of an expression `rest` begins with, by its first character `c`; gives
/// the bytes of that token.
fn token(out: &mut String, rest: &str, c: char, groups: &mut Vec<Group>) -> usize {
    let outermost = groups.len() == 1;
    let Some(group) = groups.last_mut() else { return rest.len() };
    match c {
        '\'' | '"' => {
            group.operand(out);
            return string(rest, c);
        }
        c if c.is_alphanumeric() || c == '_' => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if WORDS.contains(&&rest[..length]) {
                group.end(out)
            } else {
                group.operand(out)
            }
            return length;
        }
        '(' | '[' | '{' => {
            group.operand(out);
            groups.push(Group::default());
        }
        ')' | ']' | '}' => {
            group.end(out);
            if !outermost {
                groups.pop();
            }
        }
        '*' if rest.starts_with("**") => {
            group.operator();
            return 2;
        }
        '*' | '/' => {
            group.close(out);
            group.operator();
        }
        '-' | '+' => group.sign(out),
        '.' | '|' => {}
        c if c.is_whitespace() => {}
        _ => group.end(out),
    }
    c.len_utf8()
}

/// Bytes of the string that `text` begins with.
fn string(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_minijinja_does_not_read_is_rewritten_and_all_else_stays() {
        let p = PERCENT;
        for (source, rewritten) in [
            (
                "{%- generation -%}x{% endgeneration +%}".to_owned(),
                format!("{{%- filter {GENERATION} -%}}x{{% endfilter +%}}"),
            ),
            ("{{ 'a %} }}' }} {# % {{ #} 5 % 3 {".into(), "{{ 'a %} }}' }} {# % {{ #} 5 % 3 {".into()),
            ("{{ '%s' % x }}".into(), format!("{{{{ {p}('%s' , x) }}}}")),
            ("{% if i % 2 == 0 -%}".into(), format!("{{% if {p}(i , 2) == 0 -%}}")),
            (
                "{{ a - -b.c['%'](1) % (d, e) | f ~ g }}".into(),
                format!("{{{{ a - {p}(-b.c['%'](1) , (d, e) | f) ~ g }}}}"),
            ),
            ("{{ 2 ** -1 * 7 // -3 % -x - 1 }}".into(), format!("{{{{ {p}(2 ** -1 * 7 // -3 , -x) - 1 }}}}")),
            ("{{ a % b % c * d }}".into(), format!("{{{{ {p}({p}(a , b) , c) * d }}}}")),
            ("{{ {'k': '%d' % n}['k'] }}".into(), format!("{{{{ {{'k': {p}('%d' , n)}}['k'] }}}}")),
            (
                "{% raw %}{{ a % b }}{% endraw %}{{ a%b }}".into(),
                format!("{{% raw %}}{{{{ a % b }}}}{{% endraw %}}{{{{ {p}(a,b) }}}}"),
            ),
            ("{{ \"a\\\"%\" % 1".into(), format!("{{{{ {p}(\"a\\\"%\" , 1")),
        ] {
            assert_eq!(rewrite(&source), rewritten, "{source}");
        }
        assert_eq!(lines("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
