//! Tokens of a real provider, and forged tokens.

#[expect(dead_code, reason = "used only by other test programs")]
mod real;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use chrono::Utc;
use headwater_model::LoginCode;
use headwater_oidc::{Error, OidcConfig, Provider};
use parking_lot::Mutex;
use real::RealProvider;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A provider whose private keys the tests know.
struct OwnProvider {
    issuer: String,
    keys: Arc<Mutex<Value>>,
    /// The number of requests for keys.
    asked: Arc<AtomicUsize>,
}

/// A key pair of the curve P-256, with its id.
struct Key {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let bytes = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, bytes.as_ref(), &random).expect("a key");
        Key { pair, id }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": x, "y": y})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let signed = unsigned(&header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.expect("a signature")))
    }
}

/// Returns the signed part of a token.
fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

impl OwnProvider {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let keys = Arc::new(Mutex::new(json!({ "keys": keys })));
        let asked = Arc::<AtomicUsize>::default();
        tokio::spawn(serve(listener, issuer.clone(), keys.clone(), asked.clone()));
        OwnProvider { issuer, keys, asked }
    }

    fn provider(&self) -> Provider {
        let text = format!("issuer = \"{}\"\nclient_id = \"lake\"\n", self.issuer);
        Provider::new(OidcConfig::parse(&text).expect("a configuration")).expect("a provider")
    }

    fn claims(&self) -> Value {
        json!({"iss": self.issuer, "sub": "1", "aud": "lake", "email": "ana@example.com",
            "exp": Utc::now().timestamp() + 300})
    }
}

async fn serve(
    listener: TcpListener,
    issuer: String,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = [0; 4_096];
        let length = stream.read(&mut head).await.expect("a request");
        let body = if head[..length].starts_with(b"GET /keys") {
            asked.fetch_add(1, Ordering::Relaxed);
            keys.lock().to_string()
        } else {
            json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                "token_endpoint": format!("{issuer}/token")})
            .to_string()
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.expect("a client");
    }
}

async fn rejected(provider: &Provider, token: &str) -> bool {
    matches!(provider.verify(token, Utc::now()).await, Err(Error::Token { .. }))
}

#[tokio::test]
async fn a_token_of_a_real_provider_is_verified() {
    let real = RealProvider::start();
    let text = format!("issuer = \"{}\"\nclient_id = \"lake\"\n", real.issuer);
    let config = OidcConfig::parse(&text).expect("a configuration");
    let provider = Provider::new(config).expect("a provider");
    let token = real.token("ana");
    let identity = provider.verify(&token, Utc::now()).await.expect("a valid token");
    assert_eq!(identity.user, "ana@example.com");
    assert_eq!(identity.subject, format!("{} ana", real.issuer));
    assert_eq!(identity.groups, ["analysts", "staff"]);
    let later = Utc::now() + chrono::TimeDelta::days(2);
    assert!(provider.verify(&token, later).await.is_err(), "it expires");
    assert!(rejected(&provider, &real.token("eve")).await, "her address is not verified");
    // A changed claim breaks the signature.
    let parts: Vec<&str> = token.split('.').collect();
    let claims = String::from_utf8(BASE64.decode(parts[1]).expect("base64")).expect("text");
    let changed = BASE64.encode(claims.replace("ana@example.com", "bob@example.com"));
    assert!(rejected(&provider, &format!("{}.{changed}.{}", parts[0], parts[2])).await);
}

#[tokio::test]
async fn a_browsers_code_is_valid_once_and_only_with_its_secrets() {
    const REDIRECT: &str = "http://127.0.0.1:4280/";
    let real = RealProvider::start();
    let text = format!("issuer = \"{}\"\nclient_id = \"lake\"\n", real.issuer);
    let provider = Provider::new(OidcConfig::parse(&text).expect("a configuration"));
    let provider = provider.expect("a provider");
    let log_in = async || {
        let started = provider.start_login(REDIRECT).await.expect("a login");
        let returned = real.return_address(&started.address, "ana");
        assert!(returned.contains(&format!("state={}", started.state)), "{returned}");
        let code = returned.split(['?', '&']).find_map(|part| part.strip_prefix("code="));
        let (code, redirect) = (code.expect("a code").to_owned(), REDIRECT.to_owned());
        LoginCode { code, redirect, nonce: started.nonce, verifier: started.verifier }
    };
    let login = log_in().await;
    let identity = provider.finish_login(&login, Utc::now()).await.expect("an identity");
    assert_eq!((&*identity.user, identity.groups.len()), ("ana@example.com", 2));
    let again = provider.finish_login(&login, Utc::now()).await;
    assert!(matches!(again, Err(Error::Refused { .. })), "{again:?}");

    let stolen = LoginCode { verifier: login.verifier, ..log_in().await };
    let stolen = provider.finish_login(&stolen, Utc::now()).await;
    assert!(matches!(stolen, Err(Error::Refused { .. })), "{stolen:?}");
    let mixed = LoginCode { nonce: login.nonce, ..log_in().await };
    let mixed = provider.finish_login(&mixed, Utc::now()).await;
    assert!(matches!(mixed, Err(Error::Token { .. })), "{mixed:?}");
    let empty = LoginCode { code: String::new(), ..log_in().await };
    assert!(provider.finish_login(&empty, Utc::now()).await.is_err());
    for address in ["http://lake.example/", "javascript:alert(1)", "lake", ""] {
        let started = provider.start_login(address).await;
        assert!(matches!(started, Err(Error::Redirect { .. })), "{address}");
    }
}

#[tokio::test]
async fn forged_tokens_are_rejected() {
    let (key, other) = (Key::new("a"), Key::new("a"));
    let own = OwnProvider::start(&[key.public()]).await;
    let (provider, claims) = (own.provider(), own.claims());
    let valid = key.sign(&claims);
    provider.verify(&valid, Utc::now()).await.expect("a valid token");
    let (signed, signature) = valid.rsplit_once('.').expect("a signature");
    let public = key.public().to_string();
    let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
    let symmetric = unsigned(&json!({"alg": "HS256", "kid": "a"}), &claims);
    let mac = BASE64.encode(ring::hmac::sign(&mac, symmetric.as_bytes()).as_ref());
    let confused = unsigned(&json!({"alg": "RS256", "kid": "a"}), &claims);
    let none = unsigned(&json!({"alg": "none"}), &claims);
    // A key in the header of the token is not used.
    let brought = unsigned(&json!({"alg": "ES256", "jwk": other.public()}), &claims);
    let by_other = other.pair.sign(&SystemRandom::new(), brought.as_bytes()).expect("signed");
    for forged in [
        format!("{none}."),
        format!("{none}.{signature}"),
        format!("{symmetric}.{mac}"),
        format!("{confused}.{signature}"),
        format!("{signed}."),
        format!("{signed}.{}", BASE64.encode([0; 64])),
        format!("{signed}.{}", BASE64.encode([0; 63])),
        format!("{brought}.{}", BASE64.encode(by_other)),
        other.sign(&claims),
        valid.replace('.', ".."),
    ] {
        assert!(rejected(&provider, &forged).await, "{forged}");
    }
    for (name, value) in [
        ("iss", json!("https://login.example")),
        ("aud", json!("another")),
        ("exp", json!(1)),
        ("nbf", json!(Utc::now().timestamp() + 3_600)),
    ] {
        let mut wrong = claims.clone();
        wrong[name] = value;
        assert!(rejected(&provider, &key.sign(&wrong)).await, "{name}");
    }
}

#[tokio::test]
async fn keys_are_read_again_when_they_rotate_and_not_for_each_unknown_key() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let own = OwnProvider::start(&[old.public()]).await;
    let (provider, claims) = (own.provider(), own.claims());
    assert_eq!(own.asked.load(Ordering::Relaxed), 0, "nothing is read before the first token");
    provider.verify(&old.sign(&claims), Utc::now()).await.expect("a valid token");
    *own.keys.lock() = json!({"keys": [new.public()]});
    for _ in 0..50 {
        assert!(rejected(&provider, &Key::new("guess").sign(&claims)).await);
    }
    assert_eq!(own.asked.load(Ordering::Relaxed), 1, "the keys are read every few seconds");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while provider.verify(&new.sign(&claims), Utc::now()).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the new key is not read");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(rejected(&provider, &old.sign(&claims)).await, "the old key is withdrawn");
}

#[tokio::test]
async fn ed25519_keys_verify_and_unusable_keys_are_skipped() {
    let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(bytes.as_ref()).expect("a key");
    let x = BASE64.encode(pair.public_key().as_ref());
    let keys = [
        json!({"kty": "oct", "k": "AAAA", "kid": "e"}),
        json!({"kty": "EC", "crv": "P-521", "x": "", "y": "", "kid": "e"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "e", "use": "enc"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "e", "alg": "EdDSA"}),
        json!("no key"),
    ];
    let own = OwnProvider::start(&keys).await;
    let signed = unsigned(&json!({"alg": "EdDSA", "kid": "e"}), &own.claims());
    let token = format!("{signed}.{}", BASE64.encode(pair.sign(signed.as_bytes())));
    own.provider().verify(&token, Utc::now()).await.expect("a valid token");
}

#[tokio::test]
async fn an_unreachable_provider_gets_few_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::<AtomicUsize>::default();
    let counter = asked.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let text = format!("issuer = \"{issuer}\"\nclient_id = \"lake\"\n");
    let provider = Provider::new(OidcConfig::parse(&text).expect("valid")).expect("a provider");
    let claims = json!({"iss": issuer, "sub": "1", "aud": "lake", "email": "ana@example.com",
        "exp": Utc::now().timestamp() + 600});
    let token = Key::new("a").sign(&claims);
    for _ in 0..20 {
        let error = provider.verify(&token, Utc::now()).await.expect_err("unreachable");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let error = provider.start_login("http://127.0.0.1:4280/").await.expect_err("unreachable");
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
    let count = asked.load(Ordering::Relaxed);
    assert_eq!(count, 2, "one request for the keys, and one for the login");
}

#[tokio::test]
async fn a_provider_must_be_reachable_and_be_the_configured_one() {
    let key = Key::new("a");
    let own = OwnProvider::start(&[key.public()]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let text = format!("issuer = \"http://{address}\"\nclient_id = \"lake\"\n");
    let provider = Provider::new(OidcConfig::parse(&text).expect("valid")).expect("a provider");
    let mut claims = own.claims();
    claims["iss"] = json!(format!("http://{address}"));
    let error = provider.verify(&key.sign(&claims), Utc::now()).await.expect_err("unreachable");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // The discovery document at this address names another issuer.
    let text = format!("issuer = \"{}/other\"\nclient_id = \"lake\"\n", own.issuer);
    let provider = Provider::new(OidcConfig::parse(&text).expect("valid")).expect("a provider");
    claims["iss"] = json!(format!("{}/other", own.issuer));
    let error = provider.verify(&key.sign(&claims), Utc::now()).await.expect_err("another");
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}
