// Who sees the block on the pages of an order, which shoppers can open without signing in.

import { text, type Settings } from "./link.ts";

/** What a page of an order knows of its visitor. */
export type Visitor = {
  /** False as well where Shopify does not name the shopper to an app without access to customers' data. */
  signedIn: boolean;
  /** The order's. Only the Thank you page's API tells a subscription from a pre-order. */
  lines: { merchandise: { sellingPlan?: { id: string; recurringDeliveries?: boolean } } }[];
};

/**
 * Reports whether the block is shown. A subscription order can be a guest's: the link
 * then leads to the sign-in first. Others who are not signed in may have no subscription.
 */
export function isShown({ signedIn, lines }: Visitor, settings: Settings): boolean {
  const subscription = lines.some(({ merchandise: { sellingPlan: plan } }) => plan && plan.recurringDeliveries !== false);
  switch (text(settings, "show_to")) {
    case "everyone":
      return true;
    case "subscription orders":
      return subscription;
    default:
      return signedIn || subscription;
  }
}
