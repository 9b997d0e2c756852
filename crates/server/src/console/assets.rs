//! Serves the built files of the console page, which are compressed at build time and embedded in
//! the binary.
//!
//! The URLs of the other files in `index.html` contain a version. So a browser caches these files
//! forever and requests only `index.html` again. The content security policy allows requests to
//! this server only.

use std::io::Read;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::read::GzDecoder;
use headwater_model::{ErrorCode, Problem};
use sha2::{Digest, Sha256};

use crate::http::ErrorResponse;
use crate::server_state::App;

/// Path of the console page.
const PAGE: &str = "/";

/// Prefix of the paths of the files that the page loads.
const PREFIX: &str = "/console/";

/// The content security policy: the page loads nothing from other servers, runs no inline scripts,
/// and cannot be embedded in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A built file, compressed by gzip.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    gzip: &'static [u8],
}

/// Creates an asset from a file of `console/dist`.
const fn asset(name: &'static str, media_type: &'static str, gzip: &'static [u8]) -> Asset {
    Asset { name, media_type, gzip }
}

static ASSETS: [Asset; 4] = [
    asset(
        "index.html",
        "text/html; charset=utf-8",
        include_bytes!("../../../../console/dist/index.html.gz"),
    ),
    asset(
        "app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../../console/dist/app.js.gz"),
    ),
    asset(
        "app.css",
        "text/css; charset=utf-8",
        include_bytes!("../../../../console/dist/app.css.gz"),
    ),
    asset("icon.svg", "image/svg+xml", include_bytes!("../../../../console/dist/icon.svg.gz")),
];

/// Entity tags of the assets, in the order of [`ASSETS`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| format!("\"{}\"", &hex::encode(Sha256::digest(asset.gzip))[..32]);
    ASSETS.iter().map(tag).collect()
});

/// Returns the routes of the page.
pub fn router() -> Router<App> {
    Router::new().route(PAGE, get(async |headers: HeaderMap| file("index.html", &headers))).route(
        "/console/{name}",
        get(async |Path(name): Path<String>, headers: HeaderMap| file(&name, &headers)),
    )
}

/// Returns true for the path of the page or of one of its files, which need no token.
pub fn is_asset(path: &str) -> bool {
    path == PAGE || path.strip_prefix(PREFIX).is_some_and(|name| position(name).is_some())
}

fn position(name: &str) -> Option<usize> {
    ASSETS.iter().position(|asset| asset.name == name)
}

fn file(name: &str, request: &HeaderMap) -> Response {
    let Some(at) = position(name) else {
        let problem = Problem::new(ErrorCode::RouteNotFound, format!("there is no file `{name}`"));
        return ErrorResponse(problem.with_hint("Open the console at `/`.")).into_response();
    };
    let (asset, tag) = (&ASSETS[at], &TAGS[at]);
    // The URL of the page contains no version, so browsers must check each time if it has changed.
    let caching =
        if asset.name == "index.html" { "no-cache" } else { "public, max-age=31536000, immutable" };
    let headers = [
        (CONTENT_TYPE, asset.media_type),
        (CACHE_CONTROL, caching),
        (ETAG, tag.as_str()),
        (VARY, "accept-encoding"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    if has(request, &IF_NONE_MATCH, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if has(request, &ACCEPT_ENCODING, "gzip") {
        return (headers, [(CONTENT_ENCODING, "gzip")], asset.gzip).into_response();
    }
    (headers, decompressed(asset.gzip)).into_response()
}

fn has(headers: &HeaderMap, name: &HeaderName, part: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| text.split(',').any(|item| item.split(';').next().unwrap_or("").trim() == part))
}

/// Decompresses a file for a client that does not accept gzip. The files are trusted and small, so
/// no limit is needed.
fn decompressed(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Decompression fails only for a corrupt file; a test decompresses every file.
    let _ = GzDecoder::new(gzip).read_to_end(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Maximum total length of all files, in bytes.
    const BYTES_MAX: usize = 1 << 20;

    #[test]
    fn the_page_is_small_and_names_its_files() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < BYTES_MAX, "{bytes}");
        let page = String::from_utf8(decompressed(ASSETS[0].gzip)).expect("text");
        for asset in &ASSETS[1..] {
            assert!(page.contains(&format!("{PREFIX}{}?v=", asset.name)), "{}", asset.name);
            assert!(!decompressed(asset.gzip).is_empty());
        }
        assert!(!page.contains("://"), "the page loads files from another server");
    }

    /// Compares the hash of the sources with the hash that `console/build.mjs` stored, computed in
    /// the same way: from the names and contents of the sources, in order.
    #[test]
    fn the_built_page_is_that_of_its_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console");
        let mut sources: Vec<PathBuf> =
            ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"]
                .map(PathBuf::from)
                .to_vec();
        list(&root, Path::new("src"), &mut sources);
        sources.sort_by_key(|path| path.to_string_lossy().into_owned());
        let mut hash = Sha256::new();
        for path in &sources {
            hash.update(path.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(std::fs::read(root.join(path)).expect("a source"));
            hash.update([0]);
        }
        let built = std::fs::read_to_string(root.join("dist/sources.sha256")).expect("a hash");
        let stale = "the built page is stale: run `npm ci && npm run build` in `console`";
        assert_eq!(built.trim(), hex::encode(hash.finalize()), "{stale}");
    }

    fn list(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let path = folder.join(entry.expect("an entry").file_name());
            if root.join(&path).is_dir() {
                list(root, &path, found);
            } else {
                found.push(path);
            }
        }
    }
}
