// The block, which is the same on each page: a heading, a sentence and the link.

// With this, components follow Shopify's signals, so a changed setting shows in the editor at once.
import "@shopify/ui-extensions/preact";
import { render } from "preact";
import { isShown, type Visitor } from "./audience.ts";
import { portalLink, text } from "./link.ts";

/** What a page knows. Without a visitor, only signed-in customers can open it. */
type Page = { store: string | undefined; visitor?: () => Visitor; justOrdered?: boolean };

/** Draws the block, or nothing if there is no link or the visitor is not to see it. */
export function draw(page: Page) {
  render(<ManageSubscriptions {...page} />, document.body);
}

function ManageSubscriptions({ store, visitor, justOrdered }: Page) {
  const settings = shopify.settings.value;
  const { language, country } = shopify.localization;
  // The shopper's language, not the extension's, because the portal may have more of them.
  const href = portalLink(store, settings, language.value.isoCode, country.value?.isoCode, justOrdered);
  // In the editor, merchants see what they place, whatever order it shows.
  const shown = !visitor || shopify.extension.editor || isShown(visitor(), settings);
  if (!href || !shown) return null;
  return (
    <s-section heading={words("heading")}>
      <s-stack gap="base">
        <s-paragraph>{words("text")}</s-paragraph>
        <s-stack direction="inline">
          {/* No target, so that the storefront opens in this tab. */}
          <s-button href={href} variant="secondary">
            {words("label")}
          </s-button>
        </s-stack>
      </s-stack>
    </s-section>
  );
}

/** Returns the merchant's own words, or else the extension's in the shopper's language. */
function words(key: "heading" | "text" | "label"): string {
  return text(shopify.settings.value, key) || shopify.i18n.translate(key);
}
