//! The page around the data. Everything that comes from a run stands in data blocks, never in markup that is read as such.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::episodes::Payload;

/// Built from `page/src` by `npm run build` in `page/`.
const SCRIPT: &str = include_str!("../page/dist/page.js");
const STYLE: &str = include_str!("../page/dist/page.css");

/// A page that is served: its script asks for episodes and for what is new at the address that it came from, and nowhere else.
pub(crate) fn live_html(title: &str, data: &str) -> String {
    let mut page = head(title, " – mmhost watch", &policy(" connect-src 'self';"));
    block(&mut page, "application/json", "report-data", &data_text(data));
    page.push_str(&format!("<script>{SCRIPT}</script>\n</body>\n</html>\n"));
    page
}

/// The policy of a served page, for its header.
pub(crate) fn live_policy() -> String {
    // A header can forbid framing, which a page itself cannot.
    policy(" connect-src 'self'; frame-ancestors 'none';")
}

fn policy(more: &str) -> String {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:;{more} base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        source_hash(SCRIPT),
        source_hash(STYLE)
    )
}

fn head(title: &str, what: &str, policy: &str) -> String {
    let mut page = String::with_capacity(SCRIPT.len() + STYLE.len() + 16_384);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n"));
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    // Without an icon of its own the browser would ask the server for one.
    page.push_str("<link rel=\"icon\" href=\"data:,\">\n");
    page.push_str(&format!("<title>{}{what}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n", escaped(title)));
    page.push_str("<noscript><p>This report draws itself with a script that it carries; scripts are switched off here.</p></noscript>\n");
    page
}

/// The whole page. `data` is what the script reads first; the payload stands last, so that the page is drawn before it is read.
pub(crate) fn html(title: &str, data: &str, payload: &Payload) -> String {
    let mut page = head(title, " – mmhost report", &policy(""));
    page.reserve(payload.bytes() + data.len());
    block(&mut page, "application/json", "report-data", &data_text(data));
    page.push_str(&format!("<script>{SCRIPT}</script>\n"));
    block(&mut page, "text/plain", "episode-index", &payload.index);
    for (number, chunk) in payload.chunks.iter().enumerate() {
        block(&mut page, "text/plain", &format!("episodes-{number}"), chunk);
    }
    for (number, images) in payload.images.iter().enumerate() {
        block(&mut page, "application/json", &format!("images-{number}"), &data_text(images));
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// A data block: not a script to the browser, which neither runs nor reads it.
fn block(page: &mut String, media_type: &str, id: &str, content: &str) {
    page.push_str(&format!("<script type=\"{media_type}\" id=\"{id}\">"));
    page.push_str(content);
    page.push_str("</script>\n");
}

/// JSON in which nothing can end the block that it stands in: `<` occurs only within strings and is written as an escape.
fn data_text(json: &str) -> String {
    json.replace('<', "\\u003c")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn source_hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_page_can_stand_inside_its_tags() {
        for (name, content, end) in [("page.js", SCRIPT, "</script"), ("page.css", STYLE, "</style")] {
            assert!(!content.to_ascii_lowercase().contains(end), "{name} would end its own tag");
            assert!(!content.contains("<!--") && content.len() > 1000, "{name}");
        }
    }

    #[test]
    fn data_cannot_leave_its_block() {
        let data = serde_json::to_string("</script><script>alert(1)</script><!--").unwrap();
        let page = html("</title><b>", &data, &Payload::default());
        assert_eq!(page.matches("</script>").count(), 3, "data, script and index");
        assert!(!page.contains("alert(1)</script>") && page.contains("&lt;/title&gt;"));
        let inside = page.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<String>(inside).unwrap(), "</script><script>alert(1)</script><!--");
    }
}
