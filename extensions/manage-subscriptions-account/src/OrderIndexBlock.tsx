// Shopify wants one file for each target. Both hold the same block.
export { default } from "./ManageSubscriptions.tsx";
