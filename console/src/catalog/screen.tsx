// The screen Catalog: tables and views at the chosen ref, branches, commits, and imports.

import { ref as chosen } from "../lake";
import { useRoute } from "../route";
import { useStore } from "../store";
import { SubNav } from "../ui/sub_nav";
import { Branches } from "./branches";
import { CommitPage, Commits } from "./commits";
import { Compare } from "./compare";
import { Tables } from "./tables";
import { TablePage } from "./table";

const PARTS = [
  { title: "Tables", path: ["catalog"] },
  { title: "Branches", path: ["catalog", "branches"] },
  { title: "Commits", path: ["catalog", "commits"] },
];

export function CatalogScreen() {
  const { path } = useRoute();
  const at = useStore(chosen);
  const [, part, first, second] = path;
  const active = part === "branches" || part === "compare" ? "catalog/branches" : part === "commits" || part === "commit" ? "catalog/commits" : "catalog";
  return (
    <>
      <SubNav parts={PARTS} active={active} />
      <div class="page">
        {part === undefined && <Tables at={at} />}
        {part === "table" && first && <TablePage at={at} name={first} key={`${at} ${first}`} />}
        {part === "branches" && <Branches />}
        {part === "compare" && first && second && <Compare source={first} target={second} key={`${first} ${second}`} />}
        {part === "commits" && <Commits at={at} />}
        {part === "commit" && first && <CommitPage id={first} key={first} />}
      </div>
    </>
  );
}
