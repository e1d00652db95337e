import { conforms } from '../conformance.ts'
import { openSubject } from './subject.ts'

conforms('in Rust', () => openSubject({ gso: 'auto' }))
conforms('in Rust, without super-packets', () => openSubject({ gso: 'off' }))
