// Navigation within a screen.

import { link } from "../route";

export interface Part {
  title: string;
  path: string[];
}

export function SubNav({ parts, active }: { parts: Part[]; active: string }) {
  return (
    <nav class="tabs sub-nav" aria-label="Parts">
      {parts.map(({ title, path }) => (
        <a href={link(path)} aria-current={path.join("/") === active ? "page" : undefined}>
          {title}
        </a>
      ))}
    </nav>
  );
}
