import { Empty } from '../ui/parts';

export default function Page() {
  return <Empty>Not there yet.</Empty>;
}
