// The screen Access: users, roles and grants, access tokens, and the names of secrets.

import { useRoute } from "../route";
import { SubNav } from "../ui/sub_nav";
import { Grants } from "./grants";
import { Secrets } from "./secrets";
import { Tokens } from "./tokens";
import { Users } from "./users";

const PARTS = [
  { title: "Users", path: ["access"] },
  { title: "Roles and grants", path: ["access", "grants"] },
  { title: "Tokens", path: ["access", "tokens"] },
  { title: "Secrets", path: ["access", "secrets"] },
];

export function AccessScreen() {
  const { path } = useRoute();
  return (
    <>
      <SubNav parts={PARTS} active={path.slice(0, 2).join("/")} />
      <div class="page">
        {path[1] === undefined && <Users />}
        {path[1] === "grants" && <Grants />}
        {path[1] === "tokens" && <Tokens />}
        {path[1] === "secrets" && <Secrets />}
      </div>
    </>
  );
}
