/**
 * Puts the cursor where a page begins to be written in; never under the hands of somebody who has begun elsewhere, and not on
 * a small screen, whose keyboard would cover the page.
 */
export function beginAt(selector: string): void {
  const { activeElement, body } = document
  const isIdle = activeElement === body || activeElement?.id === 'main'
  if (isIdle && matchMedia('(min-width: 760px)').matches)
    document.querySelector<HTMLElement>(selector)?.focus({ preventScroll: true })
}
