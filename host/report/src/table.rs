//! Tables for the terminal.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::{Estimate, Metrics, PolicyMetrics, SplitMetrics, Summary};

const HEADER: [&str; 8] =
    ["questions", "accuracy %", "searches/q", "searching %", "calls/allowed %", "image search %", "text search %", "n"];

fn table(first: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(first.iter().chain(&HEADER).map(Cell::new));
    for column in table.column_iter_mut().skip(first.len() + 1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(e: &Estimate) -> String {
    format!("{:.1} [{:.0}, {:.0}]", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high)
}

fn share(e: &Estimate) -> String {
    format!("{:.1}", 100.0 * e.value)
}

fn cells(questions: &str, m: &Metrics) -> Vec<String> {
    vec![
        questions.to_string(),
        percent(&m.accuracy),
        format!("{:.2}", m.searches_per_question.value),
        share(&m.share_searching),
        share(&m.calls_over_allowed),
        share(&m.image_search_ratio),
        share(&m.text_search_ratio),
        m.n.to_string(),
    ]
}

/// One evaluation: all questions, then each class. Accuracy carries its 95 % interval.
pub fn metrics_table(metrics: &SplitMetrics) -> String {
    let mut out = table(&[]);
    out.add_row(cells("all", &metrics.all));
    for (name, class) in &metrics.classes {
        out.add_row(cells(name, class));
    }
    out.to_string()
}

/// The table that ends a run: on-demand before and after by question class, against direct and RAG.
pub fn summary_table(summary: &Summary) -> String {
    let mut out = table(&["workflow", "policy"]);
    let mut add = |workflow: &str, label: &str, policy: &str, metrics: &PolicyMetrics| {
        let Some(splits) = metrics.get(workflow) else { return };
        let mut row = |questions: &str, m: &Metrics| {
            let mut line = vec![label.to_string(), policy.to_string()];
            line.extend(cells(questions, m));
            out.add_row(line);
        };
        if let Some(test) = splits.get("test") {
            row("test: all", &test.all);
            if workflow == "on_demand" {
                for (name, class) in &test.classes {
                    row(&format!("  {name}"), class);
                }
            }
        }
        if let Some(held_out) = splits.get("held_out") {
            row("held out", &held_out.all);
        }
    };
    for (workflow, label) in [("direct", "direct"), ("rag", "RAG"), ("on_demand", "on-demand"), ("on_demand_sampled", "on-demand, sampled")]
    {
        add(workflow, label, "base", &summary.base);
        add(workflow, label, "trained", &summary.trained);
    }
    format!("{out}\n(in brackets: 95 % interval; searching %: questions with a search; calls/allowed %: searches made ÷ allowed)")
}
