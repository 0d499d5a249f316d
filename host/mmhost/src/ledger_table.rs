//! What the plugins of a run have cost, as a table.

use std::collections::BTreeMap;

use mmhost_plugins::ledger::Entry;

/// Name of the ledger's file in a run directory. Money is spent once, so a step that is done again counts again.
pub const LEDGER: &str = "ledger.json";

/// One line for each plugin; columns of requests, models, recording and money only where there are any.
pub fn ledger_table(entries: &BTreeMap<String, Entry>) -> String {
    let network = entries.values().any(|entry| entry.requests > 0);
    let models = entries.values().any(|entry| entry.completions > 0);
    let taped = entries.values().any(|entry| entry.hits + entry.misses > 0);
    let money = entries.values().any(|entry| entry.money > 0.0);
    let mut text = format!(
        "{:<20}{:>9}{:>8}{:>9}{:>11}{:>9}{:>9}{:>9}{:>10}",
        "plugin", "calls", "failed", "repeated", "median ms", "p95 ms", "p99 ms", "seconds", "peak MiB"
    );
    text.push_str(if network { "  requests" } else { "" });
    text.push_str(if models { "  completions      tokens" } else { "" });
    text.push_str(if taped { "  on record  not on it" } else { "" });
    text.push_str(if money { "     money" } else { "" });
    for (name, e) in entries {
        let (failed, l) = (e.failures.values().sum::<u64>() + e.spared, &e.latency_ms);
        text.push_str(&format!(
            "\n{name:<20}{:>9}{failed:>8}{:>9}{:>11.3}{:>9.3}{:>9.3}{:>9.2}{:>10.1}",
            e.calls,
            e.retries,
            l.p50,
            l.p95,
            l.p99,
            e.seconds,
            e.peak_memory_bytes as f64 / (1 << 20) as f64
        ));
        if network {
            text.push_str(&format!("{:>10}", e.requests));
        }
        if models {
            text.push_str(&format!("{:>13}{:>12}", e.completions, e.prompt_tokens + e.completion_tokens));
        }
        if taped {
            text.push_str(&format!("{:>11}{:>11}", e.hits, e.misses));
        }
        if money {
            text.push_str(&format!("{:>10.4}", e.money));
        }
        for (kind, n) in &e.failures {
            text.push_str(&format!("\n{:<20}{n:>17} {kind}", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_stand_below_their_plugin_and_money_only_where_it_is_spent() {
        let plain = Entry { calls: 12, seconds: 1.5, ..Entry::default() };
        let mut entries: BTreeMap<String, Entry> = [("text-search".to_string(), plain)].into();
        let table = ledger_table(&entries);
        assert!(table.contains("text-search                12       0        0"), "{table}");
        assert!(["money", "requests", "tokens", "on record"].iter().all(|word| !table.contains(word)), "{table}");
        let failures = [("deadline".to_string(), 3)].into();
        entries.insert("web-search".into(), Entry { calls: 5, failures, requests: 7, money: 0.25, ..Entry::default() });
        let asked = Entry { completions: 4, prompt_tokens: 400, completion_tokens: 9, hits: 6, misses: 2, ..Entry::default() };
        entries.insert("judge-reward".into(), asked);
        let table = ledger_table(&entries);
        assert!(table.contains("3 deadline") && table.contains("0.2500"), "{table}");
        assert!(table.contains("            4         409          6          2"), "{table}");
    }
}
