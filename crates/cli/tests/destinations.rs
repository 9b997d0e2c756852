//! Destinations of ended calls: tables, HTTP servers and e-mail, even if the server is killed.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Workspace, python, until};

/// Maximum time until an e-mail arrives, with one retry.
const ARRIVES: Duration = Duration::from_secs(60);

/// Deploys the function `score`, which fails for negative numbers, with these destinations.
fn deploy(workspace: &Workspace, destinations: &str) {
    let function = format!(
        "import headwater\n\n\n@headwater.function(reuse=True, {destinations})\n\
         @headwater.python(pip={{}})\ndef score(n):\n    if n < 0:\n        \
         raise ValueError('negative')\n    return {{'n': n}}\n"
    );
    workspace.write("functions/score.py", function);
    workspace.ok(&["deploy"]);
}

fn project() -> Workspace {
    let workspace = Workspace::new();
    let _ = std::fs::remove_dir_all(workspace.path().join("models"));
    workspace
}

fn set_secret(workspace: &Workspace, name: &str, value: &str) {
    let mut command = workspace.command(&["secret", "set", name]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(value.as_bytes()).expect("a reader");
    assert!(child.wait().expect("it ends").success());
}

fn call(workspace: &Workspace, n: i64) -> String {
    let argument = format!("n={n}");
    let event = workspace.ok(&["function", "invoke", "score", "--arg", &argument, "--async"]);
    event.trim().to_owned()
}

/// Returns the events of a queue with this status.
fn events(workspace: &Workspace, queue: &str, status: &str) -> Vec<Value> {
    let listed = workspace.json(&["event", "ls", "--status", status]);
    let of_queue = |event: &&Value| event["trigger"].as_str() == Some(queue);
    listed.as_array().expect("a list").iter().filter(of_queue).cloned().collect()
}

/// Reads the head and the body of a request.
fn request(stream: &mut TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line.to_lowercase());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (head, serde_json::from_slice(&body).expect("JSON"))
}

fn header(head: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

#[test]
fn a_record_is_sent_again_if_the_server_is_killed_during_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let workspace = project();
    set_secret(&workspace, "HOOK", "t0ken-of-the-hook");
    let address = format!("http://127.0.0.1:{port}/hook#secret=HOOK&timeout=60s");
    deploy(&workspace, &format!("on_success='{address}'"));
    let called = call(&workspace, 7);

    let (mut first, _) = listener.accept().expect("a request");
    let (head, record) = request(&mut first);
    assert_eq!(header(&head, "authorization"), "bearer t0ken-of-the-hook");
    assert_eq!(record["requestContext"]["requestId"], called.as_str());
    assert_eq!(record["responsePayload"], json!({"n": 7}));
    // Kill the server when the call has ended, but its record has not been delivered yet.
    workspace.kill_server();
    drop(first);
    assert_eq!(workspace.json(&["event", "show", &called])["status"], "done");

    let (mut second, _) = listener.accept().expect("a request");
    let (again, same) = request(&mut second);
    let key = header(&head, "idempotency-key");
    assert!(!key.is_empty());
    assert_eq!(header(&again, "idempotency-key"), key);
    assert_eq!(same, record);
    second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("an answer");
    let queue = format!("/destinations/{address}");
    until("the record is delivered", || events(&workspace, &queue, "done").len() == 1);
    let shown = workspace.json(&["event", "show", &key]);
    assert_eq!((&shown["attempts"], &shown["status"]), (&json!(1), &json!("done")));
    let kept = workspace.ok(&["event", "show", &key]);
    assert!(!kept.contains("t0ken-of-the-hook"), "{kept}");
}

#[test]
fn a_rejected_record_is_a_dead_letter_that_can_be_replayed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let workspace = project();
    set_secret(&workspace, "HOOK", "t0ken-of-the-hook");
    let address = format!("http://127.0.0.1:{port}/hook#secret=HOOK");
    deploy(&workspace, &format!("on_success='{address}'"));
    call(&workspace, 7);
    let answer = |response: &str| {
        let (mut stream, _) = listener.accept().expect("a request");
        request(&mut stream);
        stream.write_all(response.as_bytes()).expect("an answer");
    };
    let queue = format!("/destinations/{address}");
    answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    answer("HTTP/1.1 400 No\r\ncontent-length: 25\r\n\r\nno, not t0ken-of-the-hook");
    until("the record failed", || events(&workspace, &queue, "failed").len() == 1);
    let failed = &events(&workspace, &queue, "failed")[0];
    assert_eq!(failed["attempts"], 2, "{failed}");
    let message = failed["error"]["message"].as_str().expect("a message");
    assert!(message.contains("responds with status 400: no, not ***"), "{message}");
    workspace.ok(&["event", "replay", failed["id"].as_str().expect("an id")]);
    answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    until("the record is delivered", || events(&workspace, &queue, "done").len() == 1);
}

#[test]
fn a_table_has_one_row_for_each_call_although_the_server_is_killed() {
    let workspace = project();
    workspace.ok(&["namespace", "create", "log"]);
    deploy(&workspace, "on_success='table://log.calls', on_failure='table://log.calls'");
    let calls = 24;
    for n in 0..calls {
        call(&workspace, n);
        if n % 8 == 7 {
            workspace.kill_server();
        }
    }
    let count = || {
        let sql = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM log.calls";
        let answer = workspace.run(&["query", sql, "-o", "json"]);
        serde_json::from_str::<Value>(&answer.stdout).unwrap_or_default()[0].clone()
    };
    until("every call has its row", || count()["ids"] == calls);
    let is_idle = || {
        let open = |status: &str| workspace.json(&["event", "ls", "--status", status]);
        open("pending") == json!([]) && open("running") == json!([])
    };
    until("no event is pending", is_idle);
    assert_eq!(count(), json!({"n": calls, "ids": calls}));
    let sql = "SELECT function, status, request, response, error FROM log.calls \
               WHERE request = '{\"n\":3}'";
    assert_eq!(
        workspace.rows(sql),
        json!([{"function": "score", "status": "Success", "request": "{\"n\":3}",
                "response": "{\"n\":3}", "error": null}])
    );
}

#[test]
fn invalid_destinations_are_errors_of_the_deployment() {
    let workspace = project();
    for (destinations, expected) in [
        ("on_success='nothing'", "there is no function `nothing`"),
        ("on_failure='score'", "the destination is the function itself"),
        ("on_failure='ftp://example.com'", "the scheme `ftp` is unknown"),
        ("on_failure='https://example.com#secret=NONE'", "secret `NONE` does not exist"),
        ("on_failure='smtp://h?from=a@b.c'", "the option `to` is missing"),
        ("on_failure='smtp://h?from=a@b.c&to=a b@c.d'", "is not an e-mail address"),
        ("on_failure=3", "on_failure"),
    ] {
        let function = format!(
            "import headwater\n\n\n@headwater.function({destinations})\ndef score(n):\n    pass\n"
        );
        workspace.write("functions/score.py", function);
        let answer = workspace.run(&["deploy"]);
        assert_ne!(answer.code, 0, "{destinations}");
        assert!(answer.stderr.contains(expected), "{destinations}: {}", answer.stderr);
    }
}

/// A real SMTP server with the ports for STARTTLS, for TLS and without TLS.
struct MailServer {
    process: Child,
    messages: Receiver<Value>,
    ports: [u16; 3],
}

impl MailServer {
    fn start(workspace: &Workspace) -> Self {
        let packages = ["aiosmtpd==1.4.6", "trustme==1.2.1"];
        let python = python::with_packages("smtp-aiosmtpd-1.4.6", &packages);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/smtp_server.py");
        let mut command = Command::new(python);
        command.arg(script).arg(workspace.path().join("ca.pem"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let ports = lines.next().expect("a line").expect("text");
        let ports = serde_json::from_str(&ports).expect("ports");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("JSON"));
            }
        });
        MailServer { process, messages, ports }
    }

    fn next(&self) -> Value {
        self.messages.recv_timeout(ARRIVES).expect("a message")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A workspace with the secret `MAIL`, whose server trusts the mail server's certificate.
fn mail_project() -> (Workspace, MailServer, Child) {
    let workspace = project();
    set_secret(&workspace, "MAIL", "correct horse");
    workspace.ok(&["stop"]);
    let mail = MailServer::start(&workspace);
    let mut command = workspace.command(&["serve", "--http", "127.0.0.1:0"]);
    command.env("SSL_CERT_FILE", workspace.path().join("ca.pem"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
    let pid = i64::from(child.id());
    until("the server answers", || {
        workspace.server().is_some_and(|server| server["pid"] == pid)
            && workspace.run(&["status"]).stdout.contains("ok, process")
    });
    (workspace, mail, child)
}

#[test]
fn e_mails_are_sent_with_tls_and_a_password() {
    let (workspace, mail, mut server) = mail_project();
    let [start_tls, tls, plain] = mail.ports;
    let from = "from=Lake <lake@example.com>";
    for (address, is_encrypted, user) in [
        (format!("smtp://reports@localhost:{start_tls}?secret=MAIL"), true, json!("reports")),
        (format!("smtps://reports@localhost:{tls}?secret=MAIL"), true, json!("reports")),
        (format!("smtp://localhost:{plain}?tls=none"), false, Value::Null),
    ] {
        // The SMTP server temporarily rejects the first message to `busy`.
        let to = "to=ana@example.com&to=busy@example.com";
        deploy(&workspace, &format!("on_success='{address}&{from}&{to}'"));
        let event = call(&workspace, 7);
        let message = mail.next();
        assert_eq!((&message["tls"], &message["user"]), (&json!(is_encrypted), &user), "{message}");
        assert_eq!(message["from"], "lake@example.com");
        assert_eq!(message["to"], json!(["ana@example.com", "busy@example.com"]));
        let headers = &message["headers"];
        assert_eq!(headers["Subject"], "Success of score");
        assert_eq!(headers["From"], "Lake <lake@example.com>");
        let id = headers["Message-ID"].as_str().expect("an id");
        assert!(id.ends_with("@example.com>"), "{id}");
        let text = message["text"].as_str().expect("text");
        assert!(text.contains(&format!("Event: {event}\n")), "{text}");
        assert!(text.contains("\"responsePayload\": {\n    \"n\": 7\n"), "{text}");
    }
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}

#[test]
fn e_mails_are_sent_again_with_the_same_id_and_rejected_e_mails_are_dead_letters() {
    let (workspace, mail, mut server) = mail_project();
    let [start_tls, tls, plain] = mail.ports;
    // The server stores the first message to `twice`, and reports a temporary error.
    let to = "from=lake@example.com&to=twice@example.com";
    let address = format!("smtp://reports@localhost:{start_tls}?secret=MAIL&{to}");
    deploy(&workspace, &format!("on_success='{address}'"));
    call(&workspace, 7);
    let (first, second) = (mail.next(), mail.next());
    assert_eq!(first, second);
    let queue = format!("/destinations/{address}");
    until("the e-mail is sent", || events(&workspace, &queue, "done").len() == 1);

    let gone = "from=lake@example.com&to=gone@example.com";
    for (address, expected) in [
        (
            format!("smtps://reports@localhost:{tls}?secret=MAIL&{gone}"),
            "responds with code 550: no such mailbox, says reports with ***",
        ),
        (format!("smtp://localhost:{start_tls}?{gone}"), "responds with code 530"),
        (format!("smtp://localhost:{plain}?{gone}"), "does not support STARTTLS"),
    ] {
        deploy(&workspace, &format!("on_success='{address}'"));
        call(&workspace, 7);
        let queue = format!("/destinations/{address}");
        until("the e-mail is rejected", || events(&workspace, &queue, "failed").len() == 1);
        let failed = &events(&workspace, &queue, "failed")[0];
        assert_eq!(failed["attempts"], 1, "{failed}");
        let message = failed["error"]["message"].as_str().expect("a message");
        assert!(message.contains(expected), "{message}");
    }
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
}
