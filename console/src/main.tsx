// The page: login, navigation and screens.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { AccessScreen } from "./access/screen";
import { type Problem, call, storeKey, toProblem, whenLoggedOut } from "./api";
import { CatalogScreen } from "./catalog/screen";
import { FunctionsScreen } from "./functions/screen";
import { Login, logIn, takeCredential } from "./login";
import { Keys, Palette, type Target } from "./palette";
import { QueryScreen } from "./query/screen";
import { go, link, useRoute } from "./route";
import { RunsScreen } from "./runs/screen";
import type { Session } from "./types";
import { Empty, Loading } from "./ui/parts";
import { UsageScreen } from "./usage/screen";
import { RefPicker } from "./ui/ref_picker";

interface Screen {
  name: string;
  title: string;
  key: string;
  icon: string;
  show: () => preact.ComponentChild;
}

/** The screens, in the order of the navigation. The keys `g` and then `key` open a screen. */
const SCREENS: Screen[] = [
  { name: "query", title: "Query", key: "q", icon: "M3 4h10M3 8h6M3 12h8", show: () => <QueryScreen /> },
  { name: "catalog", title: "Catalog", key: "c", icon: "M3 3h10v10H3zM3 7h10M7 7v6", show: () => <CatalogScreen /> },
  { name: "runs", title: "Runs", key: "r", icon: "M5 3l8 5-8 5z", show: () => <RunsScreen /> },
  { name: "functions", title: "Functions", key: "f", icon: "M10 3c-3 0-3 2-3 5s0 5-3 5M4 8h6", show: () => <FunctionsScreen /> },
  { name: "usage", title: "Usage", key: "u", icon: "M3 13V8M8 13V3M13 13V6", show: () => <UsageScreen /> },
  { name: "access", title: "Access", key: "a", icon: "M8 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.5c.6-3 2.4-4 5-4s4.4 1 5 4", show: () => <AccessScreen /> },
];

/** The screens and their parts, for the palette. */
const TARGETS: Target[] = [
  ...SCREENS.map(({ title, name }) => ({ title, path: [name] })),
  { title: "Branches", path: ["catalog", "branches"] },
  { title: "Commits", path: ["catalog", "commits"] },
  { title: "Jobs", path: ["functions", "jobs"] },
  { title: "Queue", path: ["functions", "queue"] },
  { title: "Environments", path: ["functions", "environments"] },
  { title: "Triggers", path: ["functions", "triggers"] },
  { title: "Roles and grants", path: ["access", "grants"] },
  { title: "Tokens", path: ["access", "tokens"] },
  { title: "Secrets", path: ["access", "secrets"] },
];

function App() {
  const [session, setSession] = useState<Session | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    whenLoggedOut(() => {
      storeKey(null);
      setSession(null);
    });
    let isLogin = true;
    const open = async () => {
      const credential = takeCredential();
      isLogin = credential !== null;
      return credential ? logIn(credential) : call<Session>("/v1/session");
    };
    open()
      .then(setSession)
      .catch((error) => {
        const found = toProblem(error);
        if (isLogin || found.code !== "unauthenticated") setProblem(found);
      })
      .finally(() => setReady(true));
  }, []);
  if (!ready) return <Loading what="the console" />;
  if (!session) return <Login problem={problem} done={setSession} />;
  const logOut = async () => {
    await call("/v1/session", { method: "DELETE" }).catch(() => {});
    storeKey(null);
    setProblem(null);
    setSession(null);
  };
  return <Shell logOut={logOut} />;
}

function Shell({ logOut }: { logOut: () => void }) {
  const route = useRoute();
  const screen = SCREENS.find(({ name }) => name === (route.path[0] ?? "query"));
  const [dialog, setDialog] = useState<"palette" | "keys" | null>(null);
  useKeys(setDialog);
  useEffect(() => {
    document.title = screen ? `${screen.title} · Headwater` : "Headwater";
  }, [screen]);
  return (
    <div class="shell">
      <nav aria-label="Screens">
        <a class="logo" href={link(["query"])} aria-label="Headwater">
          <img src="/console/icon.svg" alt="" width="26" height="26" />
        </a>
        {SCREENS.map(({ name, title, icon, key }) => (
          <a
            href={link([name])}
            aria-current={screen?.name === name ? "page" : undefined}
            title={`${title} (g ${key})`}
          >
            <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
              <path d={icon} fill="none" />
            </svg>
            <span>{title}</span>
          </a>
        ))}
      </nav>
      <header class="top">
        <h1>{screen?.title ?? "Not found"}</h1>
        <RefPicker />
        <span class="grow" />
        <button type="button" class="quiet wide-only" title="Ctrl K" onClick={() => setDialog("palette")}>
          Go to… <kbd>Ctrl K</kbd>
        </button>
        <button type="button" class="quiet wide-only" aria-label="Keys" title="Keys (?)" onClick={() => setDialog("keys")}>
          ?
        </button>
        <button type="button" class="quiet" onClick={logOut}>
          Log out
        </button>
      </header>
      <main>
        {screen ? screen.show() : (
          <Empty title="This screen does not exist">
            <a href={link(["query"])}>Go to Query</a>
          </Empty>
        )}
      </main>
      {dialog === "palette" && <Palette targets={TARGETS} close={() => setDialog(null)} />}
      {dialog === "keys" && <Keys close={() => setDialog(null)} />}
    </div>
  );
}

/** The keys of the page. Keys without Ctrl do nothing while a field has the focus. */
function useKeys(open: (dialog: "palette" | "keys") => void) {
  useEffect(() => {
    let armed = false;
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        return open("palette");
      }
      const target = event.composedPath()[0] as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable) return;
      const screen = armed && SCREENS.find(({ key }) => key === event.key);
      armed = event.key === "g";
      if (screen) go([screen.name]);
      else if (event.key === "?") open("keys");
      else if (event.key === "b") document.querySelector<HTMLElement>(".ref")?.click();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

render(<App />, document.body);
