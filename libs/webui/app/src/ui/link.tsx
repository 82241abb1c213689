import type { MouseEvent, ReactNode } from 'react';
import type { PageName } from '../lib/boot';
import { go, href } from '../lib/router';

// Link goes to another page without loading the document anew.
export function Link({ page, search = '', className, current, children }: {
  page: PageName; search?: string; className?: string; current?: boolean; children: ReactNode;
}) {
  const click = (e: MouseEvent) => {
    if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) {
      return;
    }
    e.preventDefault();
    go(page, search);
    window.scrollTo(0, 0);
  };
  return (
    <a href={href(page, search)} className={className} aria-current={current ? 'page' : undefined} onClick={click}>
      {children}
    </a>
  );
}
