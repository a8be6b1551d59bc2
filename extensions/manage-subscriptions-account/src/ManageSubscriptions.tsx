// The block, which is the same on each page: a heading, a sentence and the link.

// With this, components follow Shopify's signals, so a changed setting shows in the editor at once.
import "@shopify/ui-extensions/preact";
import { render } from "preact";
import { portalLink, shopHost } from "./link.ts";

/** Draws the block, or nothing if there is no link. */
export default async function manageSubscriptions() {
  const token = await shopify.sessionToken.get().catch(() => "");
  render(<ManageSubscriptions shop={shopHost(token)} />, document.body);
}

function ManageSubscriptions({ shop }: { shop: string | undefined }) {
  // The shopper's language, not the extension's, because the portal may have more of them.
  const href = portalLink(shop, shopify.settings.value, shopify.localization.language.value.isoCode);
  if (!href) return null;
  return (
    <s-section heading={shopify.i18n.translate("heading")}>
      <s-stack gap="base">
        <s-paragraph>{shopify.i18n.translate("text")}</s-paragraph>
        <s-stack direction="inline">
          {/* No target, so that the storefront opens in this tab. */}
          <s-button href={href} variant="secondary">
            {shopify.i18n.translate("manage")}
          </s-button>
        </s-stack>
      </s-stack>
    </s-section>
  );
}
