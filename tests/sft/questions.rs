//! Questions for rewards: shapes of lines, right answers, order and split of files, and what is refused.

use super::turns;
use hadal::config::data::DataConfig;
use hadal::config::reward::RewardKind;
use hadal::config::task::{TaskConfig, TaskKind};
use hadal::data::questions::{Question, Questions};
use hadal::data::record::read;
use hadal::data::world::Split;
use hadal::error::Result;
use std::path::Path;

fn question(line: &str) -> std::result::Result<Question, String> {
    Question::new(read(line.as_bytes())?.1)
}

/// Lines with their prompt and right answer.
type Case = (&'static str, &'static [(char, &'static str)], Option<&'static str>);

const CASES: &[Case] = &[
    (r#"{"prompt": "1 + 2?"}"#, &[('u', "1 + 2?")], None),
    (r#"{"prompt": "1 + 2?", "answer": "3", "solution": null}"#, &[('u', "1 + 2?")], Some("3")),
    (r#"{"prompt": "1 + 2?", "solution": "1 + 2 = 3", "ground_truth": 3.0}"#, &[('u', "1 + 2?")], Some("3.0")),
    (r#"{"prompt": "1 + 2?", "solution": "so #### 3"}"#, &[('u', "1 + 2?")], Some("so #### 3")),
    (r#"{"prompt": "1 + 2?", "answer": " "}"#, &[('u', "1 + 2?")], None),
    // Prompts of messages, with rules.
    (
        r#"{"prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "1 + 2?"}],
        "answer": "3"}"#,
        &[('s', "Think."), ('u', "1 + 2?")],
        Some("3"),
    ),
    (
        r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}]}"#,
        &[('u', "a"), ('a', "b"), ('u', "c")],
        None,
    ),
    // GSM8K: the last mark.
    (r#"{"question": "1 + 2?", "answer": "\u0023### 2?\nNo: 3\n#### 1,003 "}"#, &[('u', "1 + 2?")], Some("1,003")),
    (r#"{"question": "1 + 2?", "answer": " three\n"}"#, &[('u', "1 + 2?")], Some("three")),
    (r#"{"prompt": "1 + 2?", "completion": "3"}"#, &[('u', "1 + 2?")], Some("3")),
    (
        r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}"#,
        &[('u', "a")],
        Some("b"),
    ),
    (r#"{"prompt": "a", "completion": "b", "label": false}"#, &[('u', "a")], None),
    (r#"{"instruction": "Add.", "input": "1, 2", "output": "3"}"#, &[('u', "Add.\n\n1, 2")], Some("3")),
    (
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
        &[('u', "a")],
        Some("b"),
    ),
    (r#"{"messages": [{"role": "user", "content": "a"}]}"#, &[('u', "a")], None),
];

#[test]
fn every_shape_gives_a_prompt_and_what_is_right() {
    for (line, prompt, reference) in CASES {
        let expected = Question { prompt: turns(prompt), reference: reference.map(str::to_owned), check: None };
        assert_eq!(question(line).unwrap(), expected, "{line}");
    }
}

#[test]
fn what_asks_nothing_is_refused_by_the_reason() {
    for (line, words) in [
        (r#"{"text": "a"}"#, "has a text, not a question"),
        (r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, "has two answers"),
        (r#"{"prompt": " "}"#, "asks nothing: the last message is empty"),
        (r#"{"prompt": [{"role": "system", "content": "a"}]}"#, "asks nothing: no message of the user"),
        (r#"{"prompt": "a", "answer": ["b"]}"#, "has a list under \"answer\", not a string or a number"),
        (r#"{"prompt": "a", "answer": true}"#, "has true or false under \"answer\""),
        (r#"{"prompt": [{"role": "assistant", "content": "a"}]}"#, "has roles out of order"),
        (
            r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "user", "content": "b"}]}"#,
            "has roles out of order",
        ),
        (r#"{"answer": "3"}"#, "has none of the known shapes"),
    ] {
        let error = question(line).unwrap_err();
        assert!(error.starts_with(words), "{line}: {error}");
    }
}

/// Opens lines as a file, of which a fifth is held out.
fn open(at: &Path, lines: &str, functions: &[RewardKind], bad: usize) -> Result<Questions> {
    let path = at.join("a.jsonl");
    std::fs::write(&path, lines).unwrap();
    let data = DataConfig { path: vec![path], val_fraction: 0.2, ..DataConfig::default() };
    Questions::open(&TaskConfig::default(), &data, functions, bad, 1)
}

fn lines(n: usize) -> String {
    (0..n).map(|i| format!("{{\"prompt\": \"q{i}\", \"answer\": {i}}}\n")).collect()
}

fn answers(questions: &Questions, numbers: std::ops::Range<u64>, split: Split) -> Vec<u64> {
    let one = |n| questions.question(n, split);
    let check = |one: Question| {
        let reference = one.reference.unwrap();
        assert_eq!(one.prompt, turns(&[('u', &format!("q{reference}"))]));
        reference.parse().unwrap()
    };
    numbers.map(one).map(check).collect()
}

#[test]
fn an_epoch_has_every_question_once_in_an_order_of_its_own_and_never_a_held_out_one() {
    let at = tempfile::tempdir().unwrap();
    let questions = open(at.path(), &lines(50), &[RewardKind::Exact], 0).unwrap();
    assert_eq!(questions.lengths(), Some((40, 10)));
    assert_eq!(
        questions.describe(),
        "1 file, 50 questions (50 with a right answer, 0 bad lines left out): 40 training questions, 10 held out"
    );
    let epoch = |number: u64| answers(&questions, 40 * number..40 * (number + 1), Split::Train);
    assert_ne!(epoch(0), epoch(1));
    for number in [0, 1, 7] {
        let mut all = epoch(number);
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
    }
    assert_eq!(answers(&questions, 0..10, Split::Val), (40..50).collect::<Vec<_>>());
    // Files of their own to validate, and the order of the lines.
    let [path, val] = ["b.jsonl", "c.jsonl"].map(|name| at.path().join(name));
    std::fs::write(&path, lines(3)).unwrap();
    std::fs::write(&val, "{\"prompt\": \"q9\", \"answer\": 9}\n").unwrap();
    let data = DataConfig { path: vec![path], val_path: vec![val], shuffle: false, ..DataConfig::default() };
    let questions = Questions::open(&TaskConfig::default(), &data, &[], 0, 1).unwrap();
    assert_eq!(answers(&questions, 0..7, Split::Train), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(answers(&questions, 0..1, Split::Val), [9]);
}

#[test]
fn rewards_that_compare_need_a_right_answer_and_others_do_not() {
    let at = tempfile::tempdir().unwrap();
    let bare = lines(9) + "{\"prompt\": \"a\"}\n";
    for (function, name) in [(RewardKind::Exact, "exact"), (RewardKind::Number, "number")] {
        let error = open(at.path(), &bare, &[RewardKind::Length, function], 0).err().unwrap();
        let expected = format!(
            "a.jsonl: line 10 has no right answer for the reward {name} to compare with; add one under \"answer\"; \
             mend them, or leave them out with --max-bad-lines 1"
        );
        assert!(error.to_string().ends_with(&expected) && error.exit_code() == 2, "{error}");
        let questions = open(at.path(), &bare, &[function], 1).unwrap();
        assert_eq!(questions.lengths(), Some((8, 1)));
        assert!(questions.describe().contains("1 bad lines left out"), "{}", questions.describe());
    }
    let questions = open(at.path(), &bare, &[RewardKind::Length, RewardKind::Command], 0).unwrap();
    assert_eq!(questions.lengths(), Some((8, 2)));
    assert!(questions.describe().contains("10 questions (9 with a right answer"), "{}", questions.describe());
    assert_eq!(questions.question(1, Split::Val).reference, None);
}

#[test]
fn what_cannot_be_asked_or_judged_is_one_sentence() {
    let at = tempfile::tempdir().unwrap();
    let refused = |result: Result<Questions>, words: &str| {
        let error = result.err().unwrap();
        assert!(error.to_string().contains(words) && error.exit_code() == 2, "{words}: {error}");
    };
    for lines in ["", "\n"] {
        refused(open(at.path(), lines, &[], 0), "data.path: holds no question to train on");
    }
    refused(open(at.path(), "{\"text\": \"a\"}\n", &[], 0), "line 1 has a text, not a question");
    refused(open(at.path(), &lines(5), &[RewardKind::World], 0), "reward.functions: has world");
    let (sums, data) = (TaskConfig { kind: TaskKind::Arithmetic, ..TaskConfig::default() }, DataConfig::default());
    refused(Questions::open(&sums, &data, &[RewardKind::World], 0, 1), "reward.functions: has world");
    let text = at.path().join("a.txt");
    std::fs::write(&text, "a").unwrap();
    let data = DataConfig { path: vec![text], ..DataConfig::default() };
    refused(Questions::open(&sums, &data, &[], 0, 1), "holds no questions; they come as JSON lines");
}

#[test]
fn without_files_questions_have_no_end_and_do_not_depend_on_the_seed_of_the_run() {
    for kind in [TaskKind::World, TaskKind::Arithmetic] {
        let (task, data) = (TaskConfig { kind, ..TaskConfig::default() }, DataConfig::default());
        let open = |seed, data| Questions::open(&task, data, &[RewardKind::Number], 0, seed).unwrap();
        let (one, other) = (open(1, &data), open(2, &data));
        assert_eq!((one.lengths(), one.describe()), (None, other.describe()));
        assert!(one.describe().ends_with("without end"), "{}", one.describe());
        for (n, split) in [(0, Split::Train), (9, Split::Val), (1 << 40, Split::Train)] {
            let question = one.question(n, split);
            assert_eq!(question, other.question(n, split));
            assert_eq!(question.check.is_some(), kind == TaskKind::World);
            assert!(question.reference.is_some() && question.prompt.len() == 1);
        }
        let elsewhere = open(1, &DataConfig { world_seed: 2, ..DataConfig::default() });
        assert!((0..9).any(|n| one.question(n, Split::Val) != elsewhere.question(n, Split::Val)));
    }
}
