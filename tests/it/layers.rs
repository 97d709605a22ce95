//! Dependencies point down only, and each foreign library has its one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of `src/` and the modules that it may use.
const LAYERS: [(&str, &[&str]); 21] = [
    ("model", &[]),
    ("stats", &["model"]),
    ("query", &["model"]),
    ("net", &["model"]),
    ("whole", &[]),
    ("config", &["net", "model"]),
    ("dataset", &["config", "query", "model"]),
    ("trace", &["stats", "model"]),
    ("identity", &["config", "trace", "net", "model"]),
    ("llm", &["identity", "trace", "net", "model"]),
    ("workflow", &["llm", "trace", "net", "model"]),
    ("evaluator", &["workflow", "llm", "trace", "model"]),
    ("runner", &["evaluator", "workflow", "llm", "dataset", "config", "trace", "model"]),
    ("store", &["trace", "query", "stats", "model"]),
    ("export", &["store", "identity", "config", "trace", "net", "whole", "model"]),
    ("compare", &["store", "trace", "stats", "query", "config", "whole", "model"]),
    ("report", &["compare", "store", "trace", "stats", "query", "model"]),
    ("serve", &["report", "compare", "store", "query", "trace", "stats", "model"]),
    (
        "evaluation",
        &["report", "compare", "store", "runner", "evaluator", "workflow", "llm", "dataset", "trace", "model"],
    ),
    ("cli", &["*"]),
    ("lib", &["*"]),
];

/// A text that may stand only in files below these paths.
const PLACES: [(&str, &[&str]); 6] = [
    ("rusqlite", &["src/store/"]),
    ("polars", &["src/dataset/parquet.rs", "src/export/parquet.rs", "src/report/frame.rs"]),
    ("opentelemetry_sdk", &["src/trace/", "src/export/"]),
    ("opentelemetry_otlp", &["src/export/"]),
    ("env::var", &["src/config/env.rs"]),
    ("println!", &[]),
];

#[test]
fn modules_use_only_what_lies_below_them() {
    let layers: BTreeMap<_, _> = LAYERS.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(allowed) = layers.get(module.as_str()) else { panic!("{module} is no known layer: add it to LAYERS") };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let known = layers.contains_key(name.as_str());
                if known && name != module && !allowed.contains(&"*") && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}:{}: {module} uses {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "dependencies point up:\n{}", wrong.join("\n"));
}

#[test]
fn each_library_has_its_place() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let shown = path.display().to_string();
        let code = if is_tests(&path) { "" } else { before_tests(&text) };
        for (needle, places) in PLACES {
            if code.lines().any(|line| !is_comment(line) && line.contains(needle))
                && !places.iter().any(|place| shown.contains(place))
            {
                wrong.push(format!("{shown}: {needle}"));
            }
        }
    }
    assert!(wrong.is_empty(), "out of place:\n{}", wrong.join("\n"));
}

#[test]
fn attribute_names_are_spelled_in_one_file() {
    let mut wrong = Vec::new();
    let spells =
        |path: &Path| ["trace/semconv.rs", "fixture.rs"].iter().any(|file| path.ends_with(file)) || is_tests(path);
    for (path, text) in sources().into_iter().filter(|(path, _)| !spells(path)) {
        // A query's example may name an attribute: that is the user's language, not ours.
        let lines = before_tests(&text).lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !is_comment(line) && !line.contains("attr.")) {
            let code = line;
            if [
                "\"gen_ai.",
                "\"spanscore.score",
                "\"spanscore.trial",
                "\"test.case.",
                "\"test.suite.",
                "\"openinference.",
            ]
            .iter()
            .any(|name| code.contains(name))
            {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "use trace::semconv:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > 600 {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not open with `//!`", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 40, "found only {} source files", files.len());
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("readable"))).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("below src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").replace("main", "lib")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// A module of tests in a file of its own.
fn is_tests(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs"))
}

fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}
