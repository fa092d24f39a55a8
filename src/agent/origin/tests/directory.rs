use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::agent::origin::{OriginConfig, serve};

struct Site {
    /// Holds `secret.txt`, and the root `site` beside it.
    above: tempfile::TempDir,
    origin: Arc<Origin>,
}

fn site() -> Site {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("site");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    fs::create_dir_all(root.join(".well-known")).unwrap();
    fs::create_dir_all(above.path().join("site-twin")).unwrap();
    fs::write(above.path().join("secret.txt"), "secret").unwrap();
    fs::write(above.path().join("site-twin/secret.txt"), "secret").unwrap();
    fs::write(root.join("index.html"), "<h1>home</h1>").unwrap();
    fs::write(root.join("sub/data.txt"), "0123456789").unwrap();
    fs::write(root.join(".env"), "secret").unwrap();
    fs::write(root.join(".git/config"), "secret").unwrap();
    fs::write(root.join(".well-known/x.txt"), "known").unwrap();
    symlink("sub/data.txt", root.join("inside")).unwrap();
    symlink(above.path().join("secret.txt"), root.join("outside")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("../site-twin", root.join("twin")).unwrap();
    symlink(".env", root.join("shown")).unwrap();
    fs::create_dir(root.join("trap")).unwrap();
    symlink(above.path().join("secret.txt"), root.join("trap/index.html")).unwrap();
    Site { origin: origin(&root.display().to_string()), above }
}

async fn fetch(site: &Site, path: &str, fields: &[(&'static str, &str)]) -> (u16, http::HeaderMap, String) {
    let mut request = get("/");
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let response = within(site.origin.answer(request)).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, text(response).await)
}

#[tokio::test]
async fn files_have_types_dates_and_an_index() {
    let site = site();
    let (status, headers, body) = fetch(&site, "/", &[]).await;
    assert_eq!((status, body.as_str()), (200, "<h1>home</h1>"));
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    let modified = headers["last-modified"].to_str().unwrap();
    assert_eq!(fetch(&site, "/", &[("if-modified-since", modified)]).await.0, 304);
    let (status, headers, _) = fetch(&site, "/sub", &[]).await;
    assert_eq!((status, &headers["location"]), (307, &"/sub/".parse().unwrap()));
    assert_eq!(fetch(&site, "/inside", &[]).await.2, "0123456789");
    assert_eq!(fetch(&site, "/.well-known/x.txt", &[]).await.2, "known");
    assert_eq!(fetch(&site, "https://a.test/sub/data.txt?q", &[]).await.2, "0123456789");
}

#[tokio::test]
async fn ranges_are_served_and_bad_ones_refused() {
    let site = site();
    let (status, headers, body) = fetch(&site, "/sub/data.txt", &[("range", "bytes=2-4")]).await;
    assert_eq!((status, body.as_str()), (206, "234"));
    assert_eq!(headers["content-range"], "bytes 2-4/10");
    assert_eq!(fetch(&site, "/sub/data.txt", &[("range", "bytes=-3")]).await.2, "789");
    assert_eq!(fetch(&site, "/sub/data.txt", &[("range", "bytes=20-")]).await.0, 416);
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let site = site();
    let request =
        |method: &str| http::Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
    let head = within(site.origin.answer(request("HEAD"))).await;
    assert_eq!(head.headers()["content-length"], "13");
    assert_eq!(text(head).await, "");
    for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
        let response = within(site.origin.answer(request(method))).await;
        assert_eq!(response.status(), 405, "{method}");
        assert!(response.headers().contains_key("allow"));
    }
    let (status, headers, body) = fetch(&site, "/none", &[("accept", "text/html")]).await;
    assert_eq!((status, &headers["content-type"]), (404, &"text/html; charset=utf-8".parse().unwrap()));
    assert!(body.contains("no such file"));
}

#[tokio::test]
async fn outside_and_hidden_files_are_not_found() {
    let site = site();
    let absolute = format!("/{}", site.above.path().join("secret.txt").display());
    for path in [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/%252e%252e/secret.txt",
        "//../secret.txt",
        "/....//secret.txt",
        "/..;/secret.txt",
        "/up/secret.txt",
        "/up/site/index.html/../../secret.txt",
        "/outside",
        "/twin/secret.txt",
        "/trap/",
        "/.env",
        "/%2eenv",
        "/sub/../.env",
        "/.git/config",
        "/sub/data.txt%00.html",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/%ff%fe",
        "/../site-twin/secret.txt",
        "/sub/data.txt/",
        absolute.as_str(),
    ] {
        let (status, _, body) = fetch(&site, path, &[]).await;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
        assert!(!body.contains("secret") && !body.contains("root:"), "{path}: {body}");
    }
}

/// Each spelling of a path that leads out, behind every directory and link, from a real root and from a root that is a
/// link: zrok CVE-2026-42275 and -45576, CWE-22, CWE-59.
#[tokio::test]
async fn no_spelling_of_a_path_leads_outside_the_root() {
    let mut site = site();
    let linked = site.above.path().join("linked");
    symlink("site", &linked).unwrap();
    for root in [site.above.path().join("site"), linked] {
        site.origin = origin(&root.display().to_string());
        for base in ["", "/sub", "/up", "/up/site", "/twin", "/inside", "/outside", "/trap", "/.well-known"] {
            for out in [
                "/secret.txt",
                "/SECRET.TXT",
                "/../secret.txt",
                "/../../secret.txt",
                "/../../../secret.txt",
                "/..%2fsecret.txt",
                "/..%2f..%2fsecret.txt",
                "/%2e%2e/secret.txt",
                "/%2e%2e%2fsecret.txt",
                "/%2E%2E%2F%2E%2E%2Fsecret.txt",
                "/..%5csecret.txt",
                "/%2e%2e%5csecret.txt",
                "/.%2e/secret.txt",
                "/%2e./secret.txt",
                "/%252e%252e/secret.txt",
                "//../secret.txt",
                "/....//secret.txt",
                "/..;/secret.txt",
                "/;/../secret.txt",
                "/%00/../secret.txt",
                "/..%00/secret.txt",
                "/..%c0%afsecret.txt",
                "/%c0%ae%c0%ae/secret.txt",
                "/../site-twin/secret.txt",
                "/%2f..%2fsecret.txt",
                "/.env",
                "/%2eenv",
                "//.git/config",
                "/",
            ] {
                let (status, _, body) = fetch(&site, &format!("{base}{out}"), &[]).await;
                assert!(!body.contains("secret"), "{base}{out}: {status} {body}");
                assert!(matches!(status, 200 | 307 | 400 | 404), "{base}{out}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn a_link_within_the_root_can_expose_a_hidden_file() {
    assert_eq!(fetch(&site(), "/shown", &[]).await.2, "secret");
}

#[tokio::test]
async fn a_redirect_stays_on_this_host() {
    let (status, headers, _) = fetch(&site(), "//sub", &[]).await;
    assert_eq!((status, &headers["location"]), (307, &"/sub/".parse().unwrap()));
}

#[tokio::test]
async fn a_pipe_is_not_found() {
    let site = site();
    let pipe = site.above.path().join("site/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(fetch(&site, "/pipe", &[]).await.0, 404);
}

#[tokio::test]
async fn a_compressed_file_beside_a_file_is_sent_to_visitors_that_accept_it() {
    let site = site();
    let root = site.above.path().join("site");
    fs::write(root.join("app.js"), "plain").unwrap();
    fs::write(root.join("app.js.gz"), "gzip").unwrap();
    fs::write(root.join("app.js.br"), "brotli").unwrap();
    symlink(site.above.path().join("secret.txt"), root.join("sub/data.txt.gz")).unwrap();
    for (accepted, coding, body) in [
        ("gzip", "gzip", "gzip"),
        ("gzip, br", "br", "brotli"),
        ("br;q=0", "", "plain"),
        ("zstd", "", "plain"),
    ] {
        let (status, headers, text) = fetch(&site, "/app.js", &[("accept-encoding", accepted)]).await;
        assert_eq!((status, text.as_str()), (200, body), "{accepted}");
        let coded = headers.get("content-encoding").map_or("", |coding| coding.to_str().unwrap());
        assert_eq!((coded, &headers["vary"]), (coding, &"accept-encoding".parse().unwrap()));
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
    }
    let (_, headers, text) = fetch(&site, "/sub/data.txt", &[("accept-encoding", "gzip")]).await;
    assert!(
        text == "0123456789" && !headers.contains_key("content-encoding"),
        "a link leads out of the root"
    );
}

#[tokio::test]
async fn a_listing_shows_what_is_served_and_nothing_else() {
    let mut site = site();
    let root = site.above.path().join("site");
    fs::write(root.join("sub/<img src=x>\"'&.txt"), "").unwrap();
    fs::write(root.join("sub/javascript:alert(1)"), "").unwrap();
    fs::write(root.join("sub/100% ü"), "abc").unwrap();
    fs::write(root.join("sub/.hidden"), "").unwrap();
    fs::create_dir(root.join("sub/deep")).unwrap();
    symlink(site.above.path().join("secret.txt"), root.join("sub/outside")).unwrap();
    symlink("..", root.join("sub/home")).unwrap();
    assert_eq!(fetch(&site, "/sub/", &[]).await.0, 404, "without the setting there is no listing");
    let mut config = OriginConfig::new(OriginTarget::Directory(root));
    config.listing = true;
    site.origin = serve([config], &Scope::new()).unwrap().origins.swap_remove(0).1;
    let (status, headers, page) = fetch(&site, "/sub/", &[]).await;
    assert_eq!((status, &headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let links: Vec<_> = page.lines().filter(|line| line.starts_with("<li>")).collect();
    assert_eq!(
        links,
        [
            "<li><a href=\"../\">../</a></li>",
            "<li><a href=\"./deep/\">deep/</a></li>",
            "<li><a href=\"./home/\">home/</a></li>",
            "<li><a href=\"./100%25%20%C3%BC\">100% ü</a> <small>3 bytes</small></li>",
            "<li><a href=\"./%3Cimg%20src%3Dx%3E%22%27%26.txt\">&lt;img src=x&gt;&quot;&#39;&amp;.txt</a> <small>0 bytes</small></li>",
            "<li><a href=\"./data.txt\">data.txt</a> <small>10 bytes</small></li>",
            "<li><a href=\"./javascript%3Aalert%281%29\">javascript:alert(1)</a> <small>0 bytes</small></li>",
        ]
    );
    assert_eq!(fetch(&site, "/sub/100%25%20%C3%BC", &[]).await.2, "abc");
    assert_eq!(fetch(&site, "/", &[]).await.2, "<h1>home</h1>");
    assert_eq!(fetch(&site, "/sub/deep/", &[]).await.0, 200);
    for path in [
        "/.git/",
        "/sub/../",
        "/sub/%2e%2e/",
        "/..%2fsite-twin/",
        "/up/",
        "/twin/",
        "/%00/",
        "/none/",
        "/sub%2Fdeep/",
    ] {
        let (status, _, page) = fetch(&site, path, &[]).await;
        assert!(status == 404 && !page.contains("<li>"), "{path}: {status} {page}");
    }
}
