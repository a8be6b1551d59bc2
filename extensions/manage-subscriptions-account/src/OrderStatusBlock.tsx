// The link in an order's e-mails opens this page without a sign-in.
import { hostOf } from "./link.ts";
import { draw } from "./ManageSubscriptions.tsx";

export default function orderStatusBlock() {
  draw({
    store: hostOf(shopify.shop),
    visitor: () => ({
      signedIn: shopify.authenticationState.value === "fully_authenticated",
      lines: shopify.lines.value,
    }),
  });
}
